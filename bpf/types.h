/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the kernel program and user space share. bpf2go makes the Go types from
 * these definitions; padding is explicit, and the compiler checks that.
 */
#pragma once

#include <linux/types.h>

/* Numbered as flow.Direction. */
enum direction {
	INGRESS,
	EGRESS,
	DIRECTIONS,
};

/* Why a packet is under no 5-tuple. */
enum reason {
	REASON_NONE,	     /* it has one */
	REASON_NOT_IP,	     /* neither IPv4 nor IPv6 by its EtherType */
	REASON_ENCAPSULATED, /* in MPLS, PPPoE or more VLAN tags than are followed */
	REASON_TRUNCATED,    /* ends within a header */
	REASON_MALFORMED,    /* a header contradicts itself */
	REASON_EXTENSIONS,   /* more extension headers than are followed */
	REASONS,
};

/* A 5-tuple at an observation point. Addresses in network order, IPv4 mapped to
 * IPv6 (RFC 4291, 2.5.5.2); ports in network order, for ICMP type and code.
 */
struct key {
	__u8 source[16];
	__u8 destination[16];
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	/* Which half of the cache the key is in: an evicted slot tells by it to
	 * which epoch it belongs.
	 */
	__u8 half;
	/* A device and a direction: the device's number twice, plus the direction. */
	__u16 point;
};

/* A key as the program handles it: whole words, which the compiler keeps in
 * registers. Bytes that are stored one by one and loaded as a word stall the CPU.
 * The attribute lets words alias the fields of a key.
 */
typedef __u64 __attribute__((may_alias)) word;

#define KEY_WORDS (sizeof(struct key) / sizeof(word))

/* One flow in the cache, and the record of an eviction: one cache line. A slot
 * with no packets is empty, whatever its other fields say.
 */
struct slot {
	struct key key;
	__u64 packets;
	__u64 bytes;
	/* Of the key without half and point, so that the observations of a flow at
	 * several points have one hash; user space indexes its table by it.
	 */
	__u64 hash;
};

/* The places where a flow may be: two cache lines next to each other. */
struct set {
	struct slot ways[2];
};

/* How many evicted slots make a record of the ring buffer. */
#define STAGE_SLOTS 16

/* Behind the sets of a CPU's half: what has left them and isn't in the ring buffer
 * yet. User space reads and clears it with the sets.
 */
struct stage {
	struct slot slots[STAGE_SLOTS];
	__u64 next;	    /* ever increasing; its remainder is the index of the slot to fill */
	__u64 reserved[15]; /* to user space the stage is slots, these ones empty */
};

struct count {
	__u64 packets;
	__u64 bytes;
};

/* What one CPU counted at one point in one half. User space clears it, as the
 * slots, when the epoch is committed: until then a restart can make it again.
 */
struct counters {
	struct count total;	/* every packet that the hook saw */
	struct count remainder; /* evicted while the ring buffer was full */
	struct count others[REASONS];
};

_Static_assert(sizeof(struct counters) == 128, "two cache lines");
