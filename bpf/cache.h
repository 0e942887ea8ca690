/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The flow cache: per CPU, two-way set-associative, no locks.
 *
 * Two runs on one CPU must not interleave within it: see section.h. Never call this
 * from a hook that runs with bottom halves on (cgroup_skb, for one).
 */
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "counters.h"
#include "hash.h"
#include "knobs.h"
#include "maps.h"
#include "section.h"
#include "types.h"

static __always_inline bool holds(const struct slot *slot, const word *words)
{
	const word *key = (const word *)&slot->key;
	__u64 difference = 0;

#pragma unroll
	for (int i = 0; i < (int)KEY_WORDS; i++)
		difference |= key[i] ^ words[i];
	return !difference && slot->packets;
}

static __always_inline void fill(struct slot *slot, const word *words, __u64 hash, const struct count *count)
{
	word *key = (word *)&slot->key;

#pragma unroll
	for (int i = 0; i < (int)KEY_WORDS; i++)
		key[i] = words[i];
	slot->packets = count->packets;
	slot->bytes = count->bytes;
	slot->hash = hash;
}

/* This CPU's table in a half. NULL only if user space set the sizes wrong. */
static __always_inline struct set *cache_of(__u32 element)
{
	return bpf_map_lookup_elem(&cache, &element);
}

/* Half and point, in their places in the key's last word. */
static __always_inline word mark_of(__u32 half, __u32 point)
{
	return (word)half << 40 | (word)point << 48;
}

/* The points of one flow go to different sets, next to each other: a router sees each
 * flow at two of them. The upper 16 bits of
 * the hash are its best ones; there are fewer sets than that.
 */
static __always_inline struct set *set_of(struct set *sets, __u64 product, word mark)
{
	return &sets[(product + mark) >> 48 & (cache_sets - 1)];
}

/* What leaves the cache goes to the ring buffer, or, if that is full, to the
 * remainder of the point where it was seen. Called outside the section: the ring
 * buffer has a lock.
 */
static __always_inline void evict(struct slot *victim, __u32 cpu)
{
	struct counters *counters;

	if (!bpf_ringbuf_output(&evictions, victim, sizeof(*victim), BPF_RB_NO_WAKEUP))
		return;
	counters = counters_of(element_of(victim->key.half, cpu), victim->key.point);
	if (!counters)
		return;
	section_enter();
	count_add(&counters->remainder, victim->packets, victim->bytes);
	section_leave();
}

/* Counts a packet under its key, within the section. The way with fewer bytes makes
 * room: heavy flows stay. Returns whether a flow had to leave; the victim is a copy
 * of it.
 */
static __always_inline bool cache_count(struct set *set, const word *words, __u64 hash, const struct count *count,
					struct slot *victim)
{
	struct slot *slot;

	slot = &set->ways[0];
	if (holds(slot, words)) {
		slot->packets += count->packets;
		slot->bytes += count->bytes;
		return false;
	}
	slot = &set->ways[1];
	if (holds(slot, words)) {
		slot->packets += count->packets;
		slot->bytes += count->bytes;
		return false;
	}
	if (!set->ways[0].packets || (slot->packets && set->ways[0].bytes <= slot->bytes))
		slot = &set->ways[0];
	*victim = *slot;
	fill(slot, words, hash, count);
	return victim->packets;
}
