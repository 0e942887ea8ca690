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
#include "section.h"
#include "types.h"
#include "wire.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* TCX_NEXT, and what clsact calls TC_ACT_UNSPEC: the next program decides. */
#define NEXT -1

/* Puts the enum into the object's type information, for bpf2go. */
const enum reason *reason_type __attribute__((unused));

/* A packet, as it is counted. */
struct packet {
	word words[KEY_WORDS];
	__u64 hash;
	struct count count;
	enum reason reason;
	__u32 half;
	__u32 point;
	__u32 cpu;
};

/* Counts the packet once in the totals of its point, and once in the cache or under
 * a reason. Within the section. Returns whether there is a victim.
 */
static __always_inline bool account(const struct packet *packet, struct slot *victim)
{
	struct counters *counters = counters_of(packet->half, packet->cpu, packet->point);
	const struct count *count = &packet->count;
	struct set *set;

	if (!counters)
		return false;
	count_add(&counters->total, count->packets, count->bytes);
	if (packet->reason != REASON_NONE) {
		count_add(&counters->others[packet->reason], count->packets, count->bytes);
		return false;
	}
	set = set_of(packet->hash, packet->half, packet->point, packet->cpu);
	if (!set) {
		count_add(&counters->remainder, count->packets, count->bytes);
		return false;
	}
	return cache_count(set, packet->words, packet->hash, count, victim);
}

static __always_inline int capture(struct __sk_buff *skb, enum direction direction)
{
	__u32 device = device_of(skb->ifindex);
	struct packet packet = {
		.half = active_half & 1,
		.point = (device & DEVICE_POINT_MASK) + direction,
		.cpu = bpf_get_smp_processor_id(),
	};
	struct tuple tuple = {};
	struct slot victim;
	bool evicted;

	packet.reason = parse(skb, device & DEVICE_LAYER3, &tuple);
	packet.count = wire_count(skb, direction, &tuple);
	if (packet.reason == REASON_NONE) {
		tuple_words(&tuple, packet.words);
		packet.hash = key_hash(packet.words);
		packet.words[KEY_WORDS - 1] |= (__u64)packet.half << 40 | (__u64)packet.point << 48;
	}
	section_enter();
	evicted = account(&packet, &victim);
	section_leave();
	if (evicted)
		evict(&victim, packet.cpu);
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
