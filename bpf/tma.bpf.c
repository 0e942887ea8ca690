//go:build ignore

// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* TMA's capture: two programs for the tc hooks of a device. They count and never
 * alter or hold back a packet.
 */
#include <stdbool.h>

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "cache.h"
#include "counters.h"
#include "evict.h"
#include "hash.h"
#include "knobs.h"
#include "maps.h"
#include "parse.h"
#include "section.h"
#include "types.h"
#include "wire.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* TCX_NEXT, and what clsact calls TC_ACT_UNSPEC: the next program decides. */
#define NEXT -1

/* Puts the enum into the object's type information, for bpf2go. */
const enum reason *reason_type __attribute__((unused));

/* Puts the types of the maps' values into the object's type information. */
const struct set *set_type __attribute__((unused));
const struct stage *stage_type __attribute__((unused));
const struct counters *counters_type __attribute__((unused));

/* A packet, as it is counted. */
struct packet {
	struct tuple tuple;
	struct count count;
	word mark; /* half and point */
};

/* Counts a packet with a key in the totals of its point and in the cache; what has
 * to leave the cache goes to user space, alone or by the stage.
 */
static __always_inline void count_flow(const struct packet *packet, struct counters *counters, struct set *sets,
				       __u32 element, __u32 cpu, bool alone)
{
	const struct count *count = &packet->count;
	struct slot *slot, victim;
	word words[KEY_WORDS];
	struct set *set;
	__u64 product;

	tuple_words(&packet->tuple, words);
	product = key_hash(words);
	words[KEY_WORDS - 1] |= packet->mark;
	set = set_of(sets, product, packet->mark);
	section_enter();
	count_add(&counters->total, count->packets, count->bytes);
	if (hit(set, words, count)) {
		section_leave();
		return;
	}
	slot = weaker(set);
	if (alone)
		victim = *slot;
	else
		evict(stage_of(sets), slot, element, cpu);
	fill(slot, words, hash_finish(product), count);
	section_leave();
	if (alone)
		evict_alone(&victim, cpu);
}

/* Counts a packet without a key in the totals of its point and under the reason. */
static __always_inline void count_other(const struct count *count, enum reason reason, struct counters *counters)
{
	section_enter();
	count_add(&counters->total, count->packets, count->bytes);
	count_add(&counters->others[reason], count->packets, count->bytes);
	section_leave();
}

/* Counts any packet. A global function, so that the way of plain packets stays short
 * and the verifier looks at this one on its own.
 */
__noinline int capture_any(struct __sk_buff *skb, __u32 device, __u32 half, __u32 direction)
{
	__u32 cpu = bpf_get_smp_processor_id(), element = element_of(half, cpu);
	__u32 point = (device & DEVICE_POINT_MASK) + direction;
	struct packet packet = {.mark = mark_of(half, point)};
	struct counters *counters = counters_of(element, point);
	struct set *sets = cache_of(element);
	enum reason reason;

	if (!counters || !sets)
		return NEXT;
	reason = parse(skb, device & DEVICE_LAYER3, &packet.tuple);
	packet.count = wire_count(skb, direction, &packet.tuple);
	if (reason == REASON_NONE)
		count_flow(&packet, counters, sets, element, cpu, preempt_rt);
	else
		count_other(&packet.count, reason, counters);
	return NEXT;
}

/* Counts the packet once in the totals of its point, and once in the cache or under
 * a reason. What the lookups need is known before the packet is read, so that they
 * come first: the key then stays in registers.
 */
static __always_inline int capture(struct __sk_buff *skb, enum direction direction)
{
	__u32 device = device_of(skb->ifindex);
	__u32 half = active_half & 1;
	__u32 cpu = bpf_get_smp_processor_id(), element = element_of(half, cpu);
	__u32 point = (device & DEVICE_POINT_MASK) + direction;
	struct packet packet = {.mark = mark_of(half, point)};
	struct counters *counters = counters_of(element, point);
	struct set *sets = cache_of(element);

	if (!counters || !sets)
		return NEXT;
	/* On PREEMPT_RT too: a copy of what is evicted takes stack, of which all
	 * functions together have 512 bytes.
	 */
	if (preempt_rt || device & DEVICE_LAYER3 || skb->gso_size || skb->vlan_present)
		return capture_any(skb, device, half, direction);
	packet.count.packets = 1;
	packet.count.bytes = skb->len;
	switch (parse_plain(skb, &packet.tuple)) {
	case PLAIN_IPV4:
		/* Constants to the compiler, which halves the work of the hash. */
		packet.tuple.source[0] = 0;
		packet.tuple.destination[0] = 0;
		count_flow(&packet, counters, sets, element, cpu, false);
		return NEXT;
	case PLAIN_IPV6:
		count_flow(&packet, counters, sets, element, cpu, false);
		return NEXT;
	default:
		return capture_any(skb, device, half, direction);
	}
}

SEC("tc")
int capture_ingress(struct __sk_buff *skb)
{
	return capture(skb, INGRESS);
}

SEC("tc")
int capture_egress(struct __sk_buff *skb)
{
	return capture(skb, EGRESS);
}
