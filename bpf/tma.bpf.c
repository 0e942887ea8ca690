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
	__u32 cpu = bpf_get_smp_processor_id();
	struct packet packet = {};
	struct counters *counters;
	struct key key = {};
	struct count count;
	__u64 hash;
	enum reason reason;

	reason = parse(skb, device & DEVICE_LAYER3, &key, &packet);
	hash = key_hash(&key);
	key.point = (device & DEVICE_POINT_MASK) + direction;
	key.half = half;
	count = wire_count(skb, direction, &key, &packet);
	counters = counters_of(half, cpu, key.point);
	if (!counters)
		return NEXT;
	count_add(&counters->total, count.packets, count.bytes);
	if (reason != REASON_NONE)
		count_add(&counters->others[reason], count.packets, count.bytes);
	else
		cache_count(&key, &count, hash, cpu, counters);
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
