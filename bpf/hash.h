/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
#pragma once

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "knobs.h"
#include "types.h"

/* Half a word of the seed; it may alias the whole one. */
typedef __u32 __attribute__((may_alias)) half_word;

/* NH (Black et al., "UMAC: fast and secure message authentication", 1999; RFC
 * 4418, 5.2): under a random seed two different keys collide before the
 * finalisation with a probability of at most 2^-32. Its products don't depend on
 * each other, so that they overlap in the CPU.
 */
static __always_inline __u64 key_hash(const word *words)
{
	const volatile half_word *halves = (const volatile half_word *)seed;
	__u64 sum = 0;

#pragma unroll
	for (int i = 0; i < (int)KEY_WORDS; i++) {
		__u32 low = (__u32)words[i] + halves[2 * i];
		__u32 high = (__u32)(words[i] >> 32) + halves[2 * i + 1];

		sum += (__u64)low * high;
	}
	/* The upper half depends on all bits; hash_finish() is for the lower one. */
	sum ^= sum >> 32;
	return sum * 0xd6e8feb86659fd93ULL;
}

/* Spreads the upper half over the lower one (Stafford, "Better bit mixing", 2011).
 * User space indexes by the result; the program needs only the upper half, sooner.
 */
static __always_inline __u64 hash_finish(__u64 product)
{
	return product ^ product >> 32;
}
