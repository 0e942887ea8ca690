/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
#pragma once

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "knobs.h"
#include "maps.h"
#include "types.h"

static __always_inline void count_add(struct count *to, __u64 packets, __u64 bytes)
{
	to->packets += packets;
	to->bytes += bytes;
}

/* Which element of the cache and of point_counters is this CPU's in a half. */
static __always_inline __u32 element_of(__u32 half, __u32 cpu)
{
	return half * possible_cpus + cpu;
}

/* The counters of a point, NULL only if user space set the sizes wrong. */
static __always_inline struct counters *counters_of(__u32 element, __u32 point)
{
	struct counters *counters = bpf_map_lookup_elem(&point_counters, &element);

	return counters && point < points ? &counters[point] : NULL;
}

/* A function of its own: merged with the lookup in the array, neither would be
 * inlined, which was measured to cost 16 ns a packet.
 */
static __noinline __u32 distant_device(__u32 ifindex)
{
	__u32 *device = bpf_map_lookup_elem(&distant_devices, &ifindex);

	return device ? *device : 0;
}

/* The DEVICE_* bits of a device, 0 for one that user space doesn't know. */
static __always_inline __u32 device_of(__u32 ifindex)
{
	__u32 *device;

	if (ifindex >= DIRECT_DEVICES)
		return distant_device(ifindex);
	device = bpf_map_lookup_elem(&devices, &ifindex);
	return device ? *device : 0;
}
