/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* From a packet to its key. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "types.h"

#define VLAN_TAGS	2 /* 802.1ad and 802.1Q */
#define IPV6_EXTENSIONS 8 /* more than any standard packet carries */

#define IP_FRAGMENT_OFFSET   0x1fff /* RFC 791; in units of 8 bytes */
#define IPV6_FRAGMENT_OFFSET 0xfff8 /* RFC 8200, 4.5; in bytes */

/* IANA's protocol numbers that the UAPI headers don't name alike. */
#define PROTOCOL_IPV6_FRAGMENT 44
#define PROTOCOL_AH	       51
#define PROTOCOL_MOBILITY      135
#define PROTOCOL_HIP	       139
#define PROTOCOL_SHIM6	       140

/* The first two fields of every IPv6 extension header (RFC 6564). */
struct extension {
	__u8 next;
	__u8 length;
	__be16 rest; /* the fragment header's offset */
};

struct transport {
	union {
		__be16 ports[2];
		__u8 icmp[4]; /* type, code, checksum */
	};
};

/* What parse() finds in a packet. Addresses in network order, as words. */
struct tuple {
	word source[2];
	word destination[2];
	__be16 source_port;
	__be16 destination_port;
	__u32 protocol;
	__u32 transport; /* offset of the transport header */
	__u32 padding;
};

/* The words of struct key on a little-endian machine, half and point 0. */
static __always_inline void tuple_words(const struct tuple *tuple, word words[KEY_WORDS])
{
	words[0] = tuple->source[0];
	words[1] = tuple->source[1];
	words[2] = tuple->destination[0];
	words[3] = tuple->destination[1];
	words[4] = tuple->source_port | (__u64)tuple->destination_port << 16 | (__u64)tuple->protocol << 32;
}

/* The second word of an IPv4-mapped address (RFC 4291, 2.5.5.2). */
static __always_inline __u64 mapped_word(__be32 address)
{
	return 0xffff0000 | (__u64)address << 32;
}

/* A header in the packet, or its copy where it isn't in the linear part. NULL if
 * the packet ends before it.
 */
static __always_inline const void *header(struct __sk_buff *skb, __u32 offset, void *copy, __u32 size)
{
	const void *data = (const void *)(long)skb->data;
	const void *end = (const void *)(long)skb->data_end;

	if (data + offset + size <= end)
		return data + offset;
	if (bpf_skb_load_bytes(skb, offset, copy, size))
		return NULL;
	return copy;
}

/* Ports, or ICMP's type and code, or zeros for protocols that have neither. */
static __always_inline enum reason parse_transport(struct __sk_buff *skb, __u32 offset, struct tuple *tuple)
{
	struct transport copy = {};
	const struct transport *transport;

	switch (tuple->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
	case IPPROTO_DCCP:
	case IPPROTO_UDPLITE:
		transport = header(skb, offset, &copy, sizeof(copy));
		if (!transport)
			return REASON_TRUNCATED;
		tuple->source_port = transport->ports[0];
		tuple->destination_port = transport->ports[1];
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		transport = header(skb, offset, &copy, sizeof(copy));
		if (!transport)
			return REASON_TRUNCATED;
		tuple->source_port = bpf_htons(transport->icmp[0]);
		tuple->destination_port = bpf_htons(transport->icmp[1]);
		break;
	}
	return REASON_NONE;
}

static __always_inline enum reason parse_ipv4(struct __sk_buff *skb, __u32 offset, struct tuple *tuple)
{
	struct iphdr copy;
	const struct iphdr *ip = header(skb, offset, &copy, sizeof(copy));

	if (!ip)
		return REASON_TRUNCATED;
	if (ip->version != 4 || ip->ihl < 5)
		return REASON_MALFORMED;
	tuple->source[1] = mapped_word(ip->saddr);
	tuple->destination[1] = mapped_word(ip->daddr);
	tuple->protocol = ip->protocol;
	tuple->transport = offset + ip->ihl * 4;
	if (ip->frag_off & bpf_htons(IP_FRAGMENT_OFFSET))
		return REASON_NONE;
	return parse_transport(skb, tuple->transport, tuple);
}

static __always_inline enum reason parse_ipv6(struct __sk_buff *skb, __u32 offset, struct tuple *tuple)
{
	struct ipv6hdr copy __attribute__((aligned(8)));
	const struct ipv6hdr *ip = header(skb, offset, &copy, sizeof(copy));
	const word *address;
	__u8 next;

	if (!ip)
		return REASON_TRUNCATED;
	if (ip->version != 6)
		return REASON_MALFORMED;
	address = (const word *)&ip->saddr;
	tuple->source[0] = address[0];
	tuple->source[1] = address[1];
	tuple->destination[0] = address[2];
	tuple->destination[1] = address[3];
	next = ip->nexthdr;
	offset += sizeof(*ip);
	for (int i = 0; i <= IPV6_EXTENSIONS; i++) {
		struct extension extension_copy;
		const struct extension *extension;

		tuple->protocol = next;
		tuple->transport = offset;
		switch (next) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
		case PROTOCOL_IPV6_FRAGMENT:
		case PROTOCOL_AH:
		case PROTOCOL_MOBILITY:
		case PROTOCOL_HIP:
		case PROTOCOL_SHIM6:
			break;
		default:
			return parse_transport(skb, offset, tuple);
		}
		extension = header(skb, offset, &extension_copy, sizeof(extension_copy));
		if (!extension)
			return REASON_TRUNCATED;
		next = extension->next;
		if (tuple->protocol == PROTOCOL_IPV6_FRAGMENT) {
			offset += 8;
			if (extension->rest & bpf_htons(IPV6_FRAGMENT_OFFSET)) {
				tuple->protocol = next;
				tuple->transport = offset;
				return REASON_NONE;
			}
		} else if (tuple->protocol == PROTOCOL_AH) {
			offset += (extension->length + 2) * 4; /* RFC 4302, 2.2 */
		} else {
			offset += (extension->length + 1) * 8;
		}
	}
	return REASON_EXTENSIONS;
}

/* Fills the tuple, all of whose bytes are 0 before, or returns the reason why the
 * packet has none. A packet of a layer-3 device starts with its IP header.
 */
static __always_inline enum reason parse(struct __sk_buff *skb, bool layer3, struct tuple *tuple)
{
	__be16 type = (__be16)skb->protocol;
	__u32 offset = 0;

	if (!layer3) {
		struct ethhdr copy;
		const struct ethhdr *ethernet = header(skb, 0, &copy, sizeof(copy));

		if (!ethernet)
			return REASON_TRUNCATED;
		type = ethernet->h_proto;
		offset = sizeof(*ethernet);
	}
	for (int i = 0; i < VLAN_TAGS; i++) {
		__be16 copy[2];
		const __be16 *tag;

		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		tag = header(skb, offset, copy, sizeof(copy));
		if (!tag)
			return REASON_TRUNCATED;
		type = tag[1];
		offset += sizeof(copy);
	}
	if (type == bpf_htons(ETH_P_IP))
		return parse_ipv4(skb, offset, tuple);
	if (type == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(skb, offset, tuple);
	return REASON_NOT_IP;
}
