//go:build ignore

// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* What TMA's capture is compared with: the same parser, the same wire counts and
 * the same totals, with another store of flows behind them. Two are stores that
 * flow agents use, one is the floor that all are measured from.
 */
#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/errno.h>

#include <bpf/bpf_helpers.h>

#include "counters.h"
#include "knobs.h"
#include "parse.h"
#include "types.h"
#include "wire.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define NEXT -1 /* TCX_NEXT */
#define DROP 2	/* TCX_DROP */

/* Puts the types of the maps' values into the object's type information. */
const struct counters *counters_type __attribute__((unused));

/* A flow that all CPUs share. */
struct shared_flow {
	__u64 packets;
	__u64 bytes;
	__u64 last; /* time of the latest packet, ns since boot */
	struct bpf_spin_lock lock;
	__u32 padding;
};

/* From a key to its flow. User space takes out all flows each epoch; max_entries
 * is set at load.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct key);
	__type(value, struct shared_flow);
} locked_flows SEC(".maps");

/* From a key to what each CPU counted of its flow. The kernel evicts the least
 * recently used flows, and what they counted is lost. User space takes out all
 * flows each epoch; max_entries is set at load.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__uint(max_entries, 1);
	__type(key, struct key);
	__type(value, struct count);
} lru_flows SEC(".maps");

/* Returns the counters of the packet's point if it has a key, else NULL. In both
 * cases the packet is counted in the totals.
 */
static __always_inline struct counters *observe(struct __sk_buff *skb, word *words, struct count *count)
{
	__u32 device = device_of(skb->ifindex), point = device & DEVICE_POINT_MASK;
	struct counters *counters = counters_of(element_of(0, bpf_get_smp_processor_id()), point);
	struct tuple tuple = {};
	enum reason reason;

	if (!counters)
		return NULL;
	reason = parse(skb, device & DEVICE_LAYER3, &tuple);
	*count = wire_count(skb, INGRESS, &tuple);
	count_add(&counters->total, count->packets, count->bytes);
	if (reason != REASON_NONE) {
		count_add(&counters->others[reason], count->packets, count->bytes);
		return NULL;
	}
	tuple_words(&tuple, words);
	words[KEY_WORDS - 1] |= (__u64)point << 48;
	return counters;
}

SEC("tc")
int empty(struct __sk_buff *skb __attribute__((unused)))
{
	return NEXT;
}

/* Behind every candidate: the packet's way is the same, and ends. */
SEC("tc")
int drop(struct __sk_buff *skb __attribute__((unused)))
{
	return DROP;
}

static __always_inline void locked_add(struct shared_flow *flow, const struct count *count, __u64 now)
{
	bpf_spin_lock(&flow->lock);
	flow->packets += count->packets;
	flow->bytes += count->bytes;
	flow->last = now;
	bpf_spin_unlock(&flow->lock);
}

/* A hash map whose entries have a spin lock and the time of their latest packet. */
SEC("tc")
int locked_hash(struct __sk_buff *skb)
{
	word words[KEY_WORDS];
	struct count count;
	struct counters *counters = observe(skb, words, &count);
	struct shared_flow *flow, first = {};
	__u64 now;

	if (!counters)
		return NEXT;
	now = bpf_ktime_get_ns();
	flow = bpf_map_lookup_elem(&locked_flows, words);
	if (flow) {
		locked_add(flow, &count, now);
		return NEXT;
	}
	first.packets = count.packets;
	first.bytes = count.bytes;
	first.last = now;
	switch (bpf_map_update_elem(&locked_flows, words, &first, BPF_NOEXIST)) {
	case 0:
		return NEXT;
	case -EEXIST: /* another CPU was faster */
		flow = bpf_map_lookup_elem(&locked_flows, words);
		if (flow) {
			locked_add(flow, &count, now);
			return NEXT;
		}
	}
	count_add(&counters->remainder, count.packets, count.bytes);
	return NEXT;
}

/* An LRU hash map whose values are per CPU: neither lock nor time stamp. */
SEC("tc")
int lru_percpu_hash(struct __sk_buff *skb)
{
	word words[KEY_WORDS];
	struct count count, *flow;
	struct counters *counters = observe(skb, words, &count);

	if (!counters)
		return NEXT;
	flow = bpf_map_lookup_elem(&lru_flows, words);
	if (flow)
		count_add(flow, count.packets, count.bytes);
	else if (bpf_map_update_elem(&lru_flows, words, &count, BPF_NOEXIST))
		count_add(&counters->remainder, count.packets, count.bytes);
	return NEXT;
}
