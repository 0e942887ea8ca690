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
#include "hash.h"
#include "knobs.h"
#include "maps.h"
#include "parse.h"
#include "types.h"
#include "wire.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* TCX_NEXT, and what clsact calls TC_ACT_UNSPEC: the next program decides. */
#define NEXT -1

/* Puts the enum into the object's type information, for bpf2go. */
const enum reason *reason_type __attribute__((unused));

/* Counts the packet once in the totals of its point, and once in the cache or
 * under a reason.
 */
static __always_inline int capture(struct __sk_buff *skb, enum direction direction)
{
	__u32 device = device_of(skb->ifindex), half = active_half & 1;
	__u32 point = (device & DEVICE_POINT_MASK) + direction;
	__u32 cpu = bpf_get_smp_processor_id();
	struct tuple tuple = {};
	struct counters *counters;
	word words[KEY_WORDS];
	enum reason reason;
	struct count count;
	struct set *set;
	__u64 hash;

	reason = parse(skb, device & DEVICE_LAYER3, &tuple);
	count = wire_count(skb, direction, &tuple);
	counters = counters_of(half, cpu, point);
	if (!counters)
		return NEXT;
	count_add(&counters->total, count.packets, count.bytes);
	if (reason != REASON_NONE) {
		count_add(&counters->others[reason], count.packets, count.bytes);
		return NEXT;
	}
	tuple_words(&tuple, words);
	hash = key_hash(words);
	words[KEY_WORDS - 1] |= (__u64)half << 40 | (__u64)point << 48;
	set = set_of(hash, half, point, cpu);
	if (set)
		cache_count(set, words, hash, &count, cpu);
	else
		count_add(&counters->remainder, count.packets, count.bytes);
	return NEXT;
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
