/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* How many packets, and of how many bytes, a socket buffer is on the wire. */
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>

#include <bpf/bpf_helpers.h>

#include "parse.h"
#include "types.h"

/* The length of all headers that each segment of a GSO packet repeats. */
static __always_inline __u32 segment_headers(struct __sk_buff *skb, const struct tuple *tuple)
{
	__u8 offset_and_flags;

	if (tuple->protocol == IPPROTO_UDP)
		return tuple->transport + 8;
	if (tuple->protocol == IPPROTO_TCP &&
	    !bpf_skb_load_bytes(skb, tuple->transport + 12, &offset_and_flags, sizeof(offset_and_flags)))
		return tuple->transport + (offset_and_flags >> 4) * 4;
	return tuple->transport;
}

/* A packet that segmentation offload will cut, or that receive offload has put
 * together, counts as its segments, each with its headers.
 */
static __always_inline struct count wire_count(struct __sk_buff *skb, enum direction direction,
					       const struct tuple *tuple)
{
	struct count count = {.packets = 1, .bytes = skb->len};
	__u32 headers, segments;

	if (!skb->gso_size)
		return count;
	headers = segment_headers(skb, tuple);
	segments = skb->gso_segs;
	/* A packet from an untrusted source, such as a guest, has no count of
	 * segments yet (net/core/dev.c, qdisc_pkt_len_init).
	 */
	if (!segments && skb->len > headers)
		segments = (skb->len - headers + skb->gso_size - 1) / skb->gso_size;
	if (segments <= 1)
		return count;
	count.packets = segments;
	if (direction == EGRESS && skb->wire_len > skb->len)
		count.bytes = skb->wire_len;
	else
		count.bytes += (__u64)(segments - 1) * headers;
	return count;
}
