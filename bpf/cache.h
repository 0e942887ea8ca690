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

static __always_inline void count_slot(struct slot *slot, const struct count *count)
{
	slot->packets += count->packets;
	slot->bytes += count->bytes;
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
 * the hash, which are its best ones, say which; there are no more sets.
 */
static __always_inline struct set *set_of(struct set *sets, __u64 product, word mark)
{
	return &sets[(product + mark) >> 48 & (cache_sets - 1)];
}

/* Where a flow has to leave for a new one: the way with fewer bytes, so that heavy
 * flows stay.
 */
static __always_inline struct slot *weaker(struct set *set)
{
	struct slot *first = &set->ways[0], *second = &set->ways[1];

	return !first->packets || (second->packets && first->bytes <= second->bytes) ? first : second;
}

/* Counts a packet under its key if its flow is in the set. */
static __always_inline bool hit(struct set *set, const word *words, const struct count *count)
{
	if (holds(&set->ways[0], words)) {
		count_slot(&set->ways[0], count);
		return true;
	}
	if (holds(&set->ways[1], words)) {
		count_slot(&set->ways[1], count);
		return true;
	}
	return false;
}
