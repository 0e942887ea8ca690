/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* How many packets, and of how many bytes, a socket buffer is on the wire.
 *
 * A packet that segmentation offload will cut, or that receive offload has put
 * together, counts as its segments, each with all of its headers. A VLAN tag in
 * metadata counts its 4 bytes in each: on the wire it is in the frame, and where the
 * device can't insert it (ethtool's tx-vlan-offload is off), the device's counters
 * have them too.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "parse.h"
#include "types.h"

#define VLAN_TAG_SIZE 4

#define UDP_HEADER  8
#define SCTP_HEADER 12
#define TCP_OFFSET  12 /* of the byte with the length of TCP's header */

#define GRE_CHECKSUM  0x8000 /* RFC 2784 */
#define GRE_KEY	      0x2000 /* RFC 2890 */
#define GRE_SEQUENCE  0x1000
#define GRE_VERSION   0x0007
#define VXLAN_PORT    4789 /* RFC 7348 */
#define VXLAN_HEADER  8
#define GENEVE_PORT   6081 /* RFC 8926 */
#define GENEVE_HEADER 8
#define GENEVE_LENGTH 0x3f /* of the first byte; options, in units of 4 bytes */

/* The length of the headers up to the data of TCP, UDP or SCTP; 0 for others, and for
 * headers that are longer than the packet.
 */
static __always_inline __u32 headers_to_data(struct __sk_buff *skb, const struct tuple *tuple)
{
	__u32 headers = 0;
	__u8 offset;

	switch (tuple->protocol) {
	case IPPROTO_UDP:
		headers = tuple->transport + UDP_HEADER;
		break;
	case IPPROTO_SCTP:
		headers = tuple->transport + SCTP_HEADER;
		break;
	case IPPROTO_TCP:
		if (!bpf_skb_load_bytes(skb, tuple->transport + TCP_OFFSET, &offset, sizeof(offset)))
			headers = tuple->transport + (offset >> 4) * 4;
	}
	return headers <= skb->len ? headers : 0;
}

/* Where the packet in a tunnel's packet begins, and whether with an IP header; 0 if
 * the packet is no tunnel's.
 */
static __always_inline __u32 inner_offset(struct __sk_buff *skb, const struct tuple *outer, bool *layer3)
{
	__u32 offset = outer->transport;
	__be16 gre[2]; /* flags, EtherType */
	__u16 flags;
	__u8 first;

	*layer3 = true;
	switch (outer->protocol) {
	case IPPROTO_IPIP:
	case IPPROTO_IPV6:
		return offset;
	case IPPROTO_GRE:
		if (bpf_skb_load_bytes(skb, offset, gre, sizeof(gre)))
			return 0;
		flags = bpf_ntohs(gre[0]);
		if (flags & GRE_VERSION)
			return 0;
		*layer3 = gre[1] != bpf_htons(ETH_P_TEB);
		offset += sizeof(gre);
		offset += flags & GRE_CHECKSUM ? 4 : 0;
		offset += flags & GRE_KEY ? 4 : 0;
		offset += flags & GRE_SEQUENCE ? 4 : 0;
		return offset;
	case IPPROTO_UDP:
		*layer3 = false;
		offset += UDP_HEADER;
		if (outer->destination_port == bpf_htons(VXLAN_PORT))
			return offset + VXLAN_HEADER;
		if (outer->destination_port == bpf_htons(GENEVE_PORT) &&
		    !bpf_skb_load_bytes(skb, offset, &first, sizeof(first)))
			return offset + GENEVE_HEADER + (first & GENEVE_LENGTH) * 4;
	}
	return 0;
}

/* The length of all headers that each segment of a GSO packet repeats, 0 if it isn't
 * known. Of a tunnel's packet the inner one is cut, and the outer headers are repeated
 * with it. Global for the reason of parse_frame(); the fields are the outer tuple's.
 */
__noinline __u32 segment_headers(struct __sk_buff *skb, __u32 transport, __u32 protocol, __u32 destination_port)
{
	struct tuple outer = {.transport = transport, .protocol = protocol, .destination_port = destination_port};
	struct tuple inner = {};
	__u32 offset, headers;
	bool layer3;

	if (!transport)
		return 0;
	offset = inner_offset(skb, &outer, &layer3);
	if (offset && parse_frame(skb, offset, layer3, &inner) == REASON_NONE) {
		headers = headers_to_data(skb, &inner);
		if (headers)
			return headers;
	}
	return headers_to_data(skb, &outer);
}

/* The wire counts of a GSO packet. wire_len is the kernel's own estimate
 * (net/core/dev.c, qdisc_pkt_len_init), which exists on egress alone and is wrong for
 * tunnels before Linux 6.3: it serves where the headers aren't known.
 */
static __always_inline void count_segments(struct __sk_buff *skb, enum direction direction, const struct tuple *tuple,
					   struct count *count)
{
	__u32 headers = segment_headers(skb, tuple->transport, tuple->protocol, tuple->destination_port);
	__u32 segments = skb->gso_segs;

	/* A packet from an untrusted source, such as a guest, has no count of
	 * segments yet.
	 */
	if (!segments && skb->len > headers)
		segments = (skb->len - headers + skb->gso_size - 1) / skb->gso_size;
	if (segments <= 1)
		return;
	count->packets = segments;
	if (headers)
		count->bytes += (__u64)(segments - 1) * headers;
	else if (direction == EGRESS && skb->wire_len > skb->len)
		count->bytes = skb->wire_len;
}

static __always_inline struct count wire_count(struct __sk_buff *skb, enum direction direction,
					       const struct tuple *tuple)
{
	struct count count = {.packets = 1, .bytes = skb->len};

	if (skb->gso_size)
		count_segments(skb, direction, tuple, &count);
	if (skb->vlan_present)
		count.bytes += count.packets * VLAN_TAG_SIZE;
	return count;
}
