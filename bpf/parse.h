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

/* What parse() found besides the key. */
struct packet {
	__u32 transport; /* offset of the transport header */
};

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
static __always_inline enum reason parse_transport(struct __sk_buff *skb, __u32 offset, struct key *key)
{
	struct transport copy = {};
	const struct transport *transport;

	switch (key->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
	case IPPROTO_DCCP:
	case IPPROTO_UDPLITE:
		transport = header(skb, offset, &copy, sizeof(copy));
		if (!transport)
			return REASON_TRUNCATED;
		key->source_port = transport->ports[0];
		key->destination_port = transport->ports[1];
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		transport = header(skb, offset, &copy, sizeof(copy));
		if (!transport)
			return REASON_TRUNCATED;
		key->source_port = bpf_htons(transport->icmp[0]);
		key->destination_port = bpf_htons(transport->icmp[1]);
		break;
	}
	return REASON_NONE;
}

static __always_inline enum reason parse_ipv4(struct __sk_buff *skb, __u32 offset, struct key *key,
					      struct packet *packet)
{
	struct iphdr copy;
	const struct iphdr *ip = header(skb, offset, &copy, sizeof(copy));

	if (!ip)
		return REASON_TRUNCATED;
	if (ip->version != 4 || ip->ihl < 5)
		return REASON_MALFORMED;
	key->source[10] = key->source[11] = 0xff;
	key->destination[10] = key->destination[11] = 0xff;
	*(__be32 *)&key->source[12] = ip->saddr;
	*(__be32 *)&key->destination[12] = ip->daddr;
	key->protocol = ip->protocol;
	packet->transport = offset + ip->ihl * 4;
	if (ip->frag_off & bpf_htons(IP_FRAGMENT_OFFSET))
		return REASON_NONE;
	return parse_transport(skb, packet->transport, key);
}

static __always_inline enum reason parse_ipv6(struct __sk_buff *skb, __u32 offset, struct key *key,
					      struct packet *packet)
{
	struct ipv6hdr copy;
	const struct ipv6hdr *ip = header(skb, offset, &copy, sizeof(copy));
	__u8 next;

	if (!ip)
		return REASON_TRUNCATED;
	if (ip->version != 6)
		return REASON_MALFORMED;
	__builtin_memcpy(key->source, &ip->saddr, sizeof(key->source));
	__builtin_memcpy(key->destination, &ip->daddr, sizeof(key->destination));
	next = ip->nexthdr;
	offset += sizeof(*ip);
	for (int i = 0; i <= IPV6_EXTENSIONS; i++) {
		struct extension extension_copy;
		const struct extension *extension;

		key->protocol = next;
		packet->transport = offset;
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
			return parse_transport(skb, offset, key);
		}
		extension = header(skb, offset, &extension_copy, sizeof(extension_copy));
		if (!extension)
			return REASON_TRUNCATED;
		next = extension->next;
		if (key->protocol == PROTOCOL_IPV6_FRAGMENT) {
			offset += 8;
			if (extension->rest & bpf_htons(IPV6_FRAGMENT_OFFSET)) {
				key->protocol = next;
				packet->transport = offset;
				return REASON_NONE;
			}
		} else if (key->protocol == PROTOCOL_AH) {
			offset += (extension->length + 2) * 4; /* RFC 4302, 2.2 */
		} else {
			offset += (extension->length + 1) * 8;
		}
	}
	return REASON_EXTENSIONS;
}

/* Fills the key, all of whose bytes are 0 before, or returns the reason why the
 * packet has none. A packet of a layer-3 device starts with its IP header.
 */
static __always_inline enum reason parse(struct __sk_buff *skb, bool layer3, struct key *key, struct packet *packet)
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
		return parse_ipv4(skb, offset, key, packet);
	if (type == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(skb, offset, key, packet);
	return REASON_NOT_IP;
}
