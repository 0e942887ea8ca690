/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* From the cache to user space: through the ring buffer, or, where that is full, into
 * the remainder of the point where the flow was seen.
 *
 * A record costs the ring buffer's lock, two atomic operations that wait for all
 * earlier stores, and a call, together some 40 ns. So what leaves gathers in a stage,
 * and a whole stage is one record.
 */
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "cache.h"
#include "counters.h"
#include "knobs.h"
#include "maps.h"
#include "section.h"
#include "types.h"

static __always_inline struct stage *stage_of(struct set *sets)
{
	return (struct stage *)&sets[cache_sets];
}

static __always_inline void count_remainder(const struct slot *victim, __u32 cpu)
{
	struct counters *counters = counters_of(element_of(victim->key.half, cpu), victim->key.point);

	if (counters)
		count_add(&counters->remainder, victim->packets, victim->bytes);
}

/* Counts a whole stage in the remainders of its points. Global for the verifier, who
 * need not look at it where it is called.
 */
__noinline int stage_remainder(__u32 element, __u32 cpu)
{
	struct set *sets = cache_of(element);

	if (!sets)
		return 0;
	for (int i = 0; i < STAGE_SLOTS; i++)
		count_remainder(&stage_of(sets)->slots[i], cpu);
	return 0;
}

/* Empties the stage into the ring buffer. */
static __always_inline void flush(struct stage *stage, __u32 element, __u32 cpu)
{
	if (bpf_ringbuf_output(&evictions, stage->slots, sizeof(stage->slots), BPF_RB_NO_WAKEUP))
		stage_remainder(element, cpu);
#pragma unroll
	for (int i = 0; i < STAGE_SLOTS; i++)
		stage->slots[i].packets = 0;
}

/* Moves a slot to the stage, within the section; it may be an empty one. */
static __always_inline void evict(struct stage *stage, const struct slot *slot, __u32 element, __u32 cpu)
{
	__u64 next = stage->next;
	__u32 index = next % STAGE_SLOTS;

	stage->slots[index] = *slot;
	if (!slot->packets)
		return;
	stage->next = next + 1;
	if (index == STAGE_SLOTS - 1)
		flush(stage, element, cpu);
}

/* Sends a slot on its own, outside the section: where that turns preemption off, the
 * ring buffer's lock can't be taken in it.
 */
static __always_inline void evict_alone(struct slot *victim, __u32 cpu)
{
	if (!victim->packets || !bpf_ringbuf_output(&evictions, victim, sizeof(*victim), BPF_RB_NO_WAKEUP))
		return;
	section_enter();
	count_remainder(victim, cpu);
	section_leave();
}
