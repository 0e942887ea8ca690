/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The flow cache: per CPU, two-way set-associative, no locks.
 *
 * Two runs on one CPU must not interleave within it. The tc hooks run with bottom
 * halves off, which keeps them apart in both directions, so never call this from a
 * hook that runs with bottom halves on (cgroup_skb, for one).
 */
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "counters.h"
#include "hash.h"
#include "knobs.h"
#include "maps.h"
#include "types.h"

static __always_inline bool same_key(const struct key *a, const struct key *b)
{
	const word *x = (const word *)a, *y = (const word *)b;
	__u64 difference = 0;

#pragma unroll
	for (int i = 0; i < (int)KEY_WORDS; i++)
		difference |= x[i] ^ y[i];
	return !difference;
}

static __always_inline struct set *set_of(const struct key *key, __u64 hash, __u32 cpu)
{
	/* The points of one flow go to different sets: a router sees each flow at
	 * two of them. The factor is 2^64 divided by the golden ratio.
	 */
	__u64 spread = hash + key->point * 0x9e3779b97f4a7c15ULL;
	__u32 set = (spread >> 32) & (cache_sets - 1);
	__u32 index = (key->half * possible_cpus + cpu) * cache_sets + set;

	return bpf_map_lookup_elem(&cache, &index);
}

/* What leaves the cache goes to the ring buffer, or, if that is full, to the
 * remainder of the point where it was seen.
 */
static __always_inline void evict(struct slot *victim, __u32 cpu)
{
	struct counters *counters;

	if (!bpf_ringbuf_output(&evictions, victim, sizeof(*victim), BPF_RB_NO_WAKEUP))
		return;
	counters = counters_of(victim->key.half, cpu, victim->key.point);
	if (counters)
		count_add(&counters->remainder, victim->packets, victim->bytes);
}

/* Counts a packet under its key. The way with fewer bytes makes room: heavy flows
 * stay.
 */
static __always_inline void cache_count(const struct key *key, const struct count *count, __u64 hash, __u32 cpu,
					struct counters *counters)
{
	struct set *set = set_of(key, hash, cpu);
	struct slot *slot, victim;

	if (!set) {
		count_add(&counters->remainder, count->packets, count->bytes);
		return;
	}
	slot = &set->ways[0];
	if (slot->hash == hash && slot->packets && same_key(&slot->key, key)) {
		slot->packets += count->packets;
		slot->bytes += count->bytes;
		return;
	}
	slot = &set->ways[1];
	if (slot->hash == hash && slot->packets && same_key(&slot->key, key)) {
		slot->packets += count->packets;
		slot->bytes += count->bytes;
		return;
	}
	if (!set->ways[0].packets || (slot->packets && set->ways[0].bytes <= slot->bytes))
		slot = &set->ways[0];
	/* The record is written from a copy, so that the cache is left before the
	 * ring buffer's lock is taken.
	 */
	victim = *slot;
	slot->key = *key;
	slot->packets = count->packets;
	slot->bytes = count->bytes;
	slot->hash = hash;
	if (victim.packets)
		evict(&victim, cpu);
}
