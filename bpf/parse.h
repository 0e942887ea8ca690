/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* From a packet to its key.
 *
 * parse_plain() is the straight line that nearly all packets take: Ethernet, IPv4 or
 * IPv6, TCP or UDP, with nothing between them. parse_frame() reads everything else.
 * exporter/capture/oracle_test.go says the same in another way, and the tests compare
 * the two. What is decided where the RFCs leave a choice:
 *
 * - The addresses are those of the outermost IP header, and the protocol is what
 *   follows that header: a tunnel (IP in IP, GRE, VXLAN, ESP) counts under its ends.
 *   An ICMP error counts under its own addresses, not under those of its cause.
 * - Up to two VLAN tags in the frame are skipped, besides the one that the kernel
 *   keeps in metadata: it takes the outermost out of every frame that comes in. More
 *   tags, MPLS and PPPoE are REASON_ENCAPSULATED: IP may be inside. On a PPPoE uplink
 *   the flows are those of its ppp device, a layer-3 device.
 * - Nothing behind the end of the IP packet is read: what follows in the frame is
 *   padding (IEEE 802.3, 4A.2.3.2.4) or was never meant. An IP packet that claims to
 *   be longer than the frame ends with the frame, and is counted under its key if
 *   that is there: who sends it is worth more than that it is cut.
 * - IPv4 with a total length below its header's is malformed, but for 0 in a packet
 *   of segmentation offload: BIG TCP, which is longer than the field can say. IPv6
 *   with a payload length of 0 has no payload, unless it is such a packet or its next
 *   header is Hop-by-Hop, where the jumbo payload option is (RFC 2675): these end
 *   with the frame.
 * - Extension headers are those of RFC 8200 and AH, the latter with IPv4 too: behind
 *   AH the ports are in the clear. ESP's are not, so that its ports are 0. Mobility,
 *   HIP and Shim6 are protocols: nothing follows them in practice, and their names
 *   say more than "no next header".
 * - A first fragment has ports like any packet; so has an atomic one (RFC 6946),
 *   whose fragment header says that it is whole. Later fragments have ports 0 and the
 *   protocol that their fragment header names, which may be an extension header.
 * - TCP, UDP, UDP-Lite, SCTP and DCCP have ports; ICMP has type and code instead. Of
 *   the transport header the first four bytes have to be there, or the packet is
 *   truncated. Every other protocol has ports 0, and nothing of it is read.
 */
#pragma once

#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "types.h"

#define VLAN_TAGS  2 /* 802.1ad and 802.1Q */
#define EXTENSIONS 8 /* more than any standard packet carries */

#define ETHERTYPE_OFFSET (2 * ETH_ALEN)

#define IPV4_PLAIN	     0x45   /* version 4, no options */
#define IP_FRAGMENT_OFFSET   0x1fff /* RFC 791; in units of 8 bytes */
#define IPV6_FRAGMENT_OFFSET 0xfff8 /* RFC 8200, 4.5; in bytes */
#define PORTS_SIZE	     4
#define LINEAR_MAX	     4095 /* the verifier wants a bound for offsets */

/* IANA's protocol numbers that the UAPI headers don't name alike. */
#define PROTOCOL_IPV6_FRAGMENT 44
#define PROTOCOL_AH	       51

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

static __always_inline void take_ports(struct tuple *tuple, const __be16 ports[2])
{
	tuple->source_port = ports[0];
	tuple->destination_port = ports[1];
}

static __always_inline bool parse_plain_ipv4(const void *data, struct tuple *tuple)
{
	const struct iphdr *ip = data + ETH_HLEN;

	if (*(const __u8 *)ip != IPV4_PLAIN || ip->frag_off & bpf_htons(IP_FRAGMENT_OFFSET))
		return false;
	if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP)
		return false;
	if (bpf_ntohs(ip->tot_len) < sizeof(*ip) + PORTS_SIZE)
		return false;
	tuple->source[1] = mapped_word(ip->saddr);
	tuple->destination[1] = mapped_word(ip->daddr);
	tuple->protocol = ip->protocol;
	tuple->transport = ETH_HLEN + sizeof(*ip);
	take_ports(tuple, data + ETH_HLEN + sizeof(*ip));
	return true;
}

static __always_inline bool parse_plain_ipv6(const void *data, struct tuple *tuple)
{
	const struct ipv6hdr *ip = data + ETH_HLEN;
	const word *address = (const word *)&ip->saddr;

	if (ip->version != 6 || (ip->nexthdr != IPPROTO_TCP && ip->nexthdr != IPPROTO_UDP))
		return false;
	if (bpf_ntohs(ip->payload_len) < PORTS_SIZE)
		return false;
	tuple->source[0] = address[0];
	tuple->source[1] = address[1];
	tuple->destination[0] = address[2];
	tuple->destination[1] = address[3];
	tuple->protocol = ip->nexthdr;
	tuple->transport = ETH_HLEN + sizeof(*ip);
	take_ports(tuple, data + ETH_HLEN + sizeof(*ip));
	return true;
}

enum plain {
	PLAIN_NOT,
	PLAIN_IPV4,
	PLAIN_IPV6,
};

/* Fills the tuple of a packet that is plain and whose headers are in the linear part,
 * and says what it is; leaves it alone if it isn't, or they aren't.
 */
static __always_inline enum plain parse_plain(struct __sk_buff *skb, struct tuple *tuple)
{
	const void *data = (const void *)(long)skb->data;
	const void *end = (const void *)(long)skb->data_end;
	__be16 type;

	if (data + ETH_HLEN + sizeof(struct iphdr) + PORTS_SIZE > end)
		return PLAIN_NOT;
	/* struct ethhdr is packed: the compiler would load its fields bytewise. */
	type = *(const __be16 *)(data + ETHERTYPE_OFFSET);
	if (type == bpf_htons(ETH_P_IP))
		return parse_plain_ipv4(data, tuple) ? PLAIN_IPV4 : PLAIN_NOT;
	if (data + ETH_HLEN + sizeof(struct ipv6hdr) + PORTS_SIZE > end)
		return PLAIN_NOT;
	if (type == bpf_htons(ETH_P_IPV6))
		return parse_plain_ipv6(data, tuple) ? PLAIN_IPV6 : PLAIN_NOT;
	return PLAIN_NOT;
}

/* Copies a header that has to end at or before the given offset;
 * false if it doesn't. The helper costs more, but reaches beyond the linear part.
 */
static __always_inline bool load(struct __sk_buff *skb, __u32 offset, __u32 end, void *to, __u32 size)
{
	const void *data = (const void *)(long)skb->data;

	if (offset + size > end)
		return false;
	if (offset <= LINEAR_MAX && data + offset + size <= (const void *)(long)skb->data_end) {
		__builtin_memcpy(to, __builtin_assume_aligned(data + offset, 4), size);
		return true;
	}
	return !bpf_skb_load_bytes(skb, offset, to, size);
}

static __always_inline bool has_ports(__u32 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP ||
	       protocol == IPPROTO_DCCP || protocol == IPPROTO_UDPLITE;
}

static __always_inline enum reason parse_transport(struct __sk_buff *skb, __u32 end, struct tuple *tuple)
{
	bool icmp = tuple->protocol == IPPROTO_ICMP || tuple->protocol == IPPROTO_ICMPV6;
	union {
		__be16 ports[2];
		__u8 icmp[4]; /* type, code, checksum */
	} header;

	if (!icmp && !has_ports(tuple->protocol))
		return REASON_NONE;
	if (!load(skb, tuple->transport, end, &header, sizeof(header)))
		return REASON_TRUNCATED;
	if (icmp) {
		tuple->source_port = bpf_htons(header.icmp[0]);
		tuple->destination_port = bpf_htons(header.icmp[1]);
	} else {
		take_ports(tuple, header.ports);
	}
	return REASON_NONE;
}

static __always_inline bool is_extension(__u32 protocol, bool ipv6)
{
	return protocol == PROTOCOL_AH || (ipv6 && (protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING ||
						    protocol == IPPROTO_DSTOPTS || protocol == PROTOCOL_IPV6_FRAGMENT));
}

/* Follows the headers from tuple->protocol at tuple->transport on. */
static __always_inline enum reason parse_chain(struct __sk_buff *skb, __u32 end, bool ipv6, struct tuple *tuple)
{
	struct {
		__u8 next;
		__u8 length;	 /* in units of 8 bytes but the first 8 (RFC 6564), AH differs */
		__be16 fragment; /* of a fragment header: its offset */
	} header;

	for (int i = 0; i < EXTENSIONS; i++) {
		__u32 this = tuple->protocol, length;

		if (!is_extension(this, ipv6))
			return parse_transport(skb, end, tuple);
		if (!load(skb, tuple->transport, end, &header, sizeof(header)))
			return REASON_TRUNCATED;
		if (this == PROTOCOL_IPV6_FRAGMENT)
			length = 8;
		else if (this == PROTOCOL_AH)
			length = (header.length + 2) * 4; /* RFC 4302, 2.2 */
		else
			length = (header.length + 1) * 8;
		tuple->protocol = header.next;
		tuple->transport += length;
		if (tuple->transport > end)
			return REASON_TRUNCATED;
		if (this == PROTOCOL_IPV6_FRAGMENT && header.fragment & bpf_htons(IPV6_FRAGMENT_OFFSET))
			return REASON_NONE;
	}
	if (is_extension(tuple->protocol, ipv6))
		return REASON_EXTENSIONS;
	return parse_transport(skb, end, tuple);
}

static __always_inline enum reason parse_ipv4(struct __sk_buff *skb, __u32 offset, struct tuple *tuple)
{
	struct iphdr ip;
	__u32 length, end;

	if (!load(skb, offset, skb->len, &ip, sizeof(ip)))
		return REASON_TRUNCATED;
	length = bpf_ntohs(ip.tot_len);
	if (!length && skb->gso_size)
		length = skb->len - offset;
	if (ip.version != 4 || ip.ihl < 5 || length < ip.ihl * 4U)
		return REASON_MALFORMED;
	end = offset + length;
	if (end > skb->len)
		end = skb->len;
	tuple->source[1] = mapped_word(ip.saddr);
	tuple->destination[1] = mapped_word(ip.daddr);
	tuple->protocol = ip.protocol;
	tuple->transport = offset + ip.ihl * 4;
	if (tuple->transport > end)
		return REASON_TRUNCATED;
	if (ip.frag_off & bpf_htons(IP_FRAGMENT_OFFSET))
		return REASON_NONE;
	return parse_chain(skb, end, false, tuple);
}

static __always_inline enum reason parse_ipv6(struct __sk_buff *skb, __u32 offset, struct tuple *tuple)
{
	struct ipv6hdr ip __attribute__((aligned(8)));
	const word *address = (const word *)&ip.saddr;
	__u32 length, end;

	if (!load(skb, offset, skb->len, &ip, sizeof(ip)))
		return REASON_TRUNCATED;
	if (ip.version != 6)
		return REASON_MALFORMED;
	length = bpf_ntohs(ip.payload_len);
	end = offset + sizeof(ip) + length;
	if (end > skb->len || (!length && (skb->gso_size || ip.nexthdr == IPPROTO_HOPOPTS)))
		end = skb->len;
	tuple->source[0] = address[0];
	tuple->source[1] = address[1];
	tuple->destination[0] = address[2];
	tuple->destination[1] = address[3];
	tuple->protocol = ip.nexthdr;
	tuple->transport = offset + sizeof(ip);
	return parse_chain(skb, end, true, tuple);
}

static __always_inline bool is_tag(__be16 type)
{
	return type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD);
}

static __always_inline bool is_encapsulation(__be16 type)
{
	return is_tag(type) || type == bpf_htons(ETH_P_MPLS_UC) || type == bpf_htons(ETH_P_MPLS_MC) ||
	       type == bpf_htons(ETH_P_PPP_SES);
}

/* The EtherType that a packet without layer-2 header would have. The version decides
 * and not skb->protocol, which packet sockets leave to their user, but for MPLS, whose
 * labels may begin like a version.
 */
static __always_inline __be16 layer3_type(struct __sk_buff *skb, __u32 offset)
{
	__be16 type = (__be16)skb->protocol;
	__u8 first = 0;

	if (!offset && (type == bpf_htons(ETH_P_MPLS_UC) || type == bpf_htons(ETH_P_MPLS_MC)))
		return type;
	load(skb, offset, skb->len, &first, sizeof(first));
	switch (first >> 4) {
	case 4:
		return bpf_htons(ETH_P_IP);
	case 6:
		return bpf_htons(ETH_P_IPV6);
	}
	return 0;
}

/* Reads the frame at an offset, with layer3 set the IP packet there. Fills the tuple,
 * all of whose bytes are 0 before, or returns the reason why the packet has none, what
 * is in the tuple then meaning nothing. A global function, so that the verifier looks
 * at it once a program and not once a path.
 */
__noinline int parse_frame(struct __sk_buff *skb, __u32 offset, __u32 layer3, struct tuple *tuple)
{
	__be16 tag[2]; /* TCI, EtherType */
	__be16 type;

	if (!tuple || offset > skb->len)
		return REASON_TRUNCATED;
	if (layer3) {
		type = layer3_type(skb, offset);
	} else {
		if (!load(skb, offset + ETHERTYPE_OFFSET, skb->len, &type, sizeof(type)))
			return REASON_TRUNCATED;
		offset += ETH_HLEN;
	}
	for (int i = 0; i < VLAN_TAGS && is_tag(type); i++) {
		if (!load(skb, offset, skb->len, tag, sizeof(tag)))
			return REASON_TRUNCATED;
		type = tag[1];
		offset += sizeof(tag);
	}
	if (type == bpf_htons(ETH_P_IP))
		return parse_ipv4(skb, offset, tuple);
	if (type == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(skb, offset, tuple);
	return is_encapsulation(type) ? REASON_ENCAPSULATED : REASON_NOT_IP;
}

/* Fills the tuple, all of whose bytes are 0 before and stay so if the packet has no
 * key; then returns why. A packet of a layer-3 device starts with its IP header.
 */
static __always_inline enum reason parse(struct __sk_buff *skb, bool layer3, struct tuple *tuple)
{
	struct tuple found = {};
	__u32 reason;

	if (!layer3 && parse_plain(skb, tuple) != PLAIN_NOT)
		return REASON_NONE;
	reason = parse_frame(skb, 0, layer3, &found);
	/* The compiler knows what a global function returns, the verifier doesn't. */
	barrier_var(reason);
	if (reason == REASON_NONE)
		*tuple = found;
	return reason < REASONS ? reason : REASON_MALFORMED;
}
