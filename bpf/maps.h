/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "types.h"

/* Devices with an index below this are found by an array, others by a hash. */
#define DIRECT_DEVICES 65536

/* The flow cache: an element for each half and possible CPU, in that order of
 * significance, which is a table of the knob cache_sets sets (struct set) and behind
 * them the stage of what left them (struct stage). A plain
 * array and not a per-CPU one, because user space reads and clears the idle half by
 * mmap. One element a CPU, because its lookup then needs nothing of the packet; the
 * set in it costs a shift and a sum. value_size and max_entries are set at load from
 * the memory budget.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct set) + sizeof(struct stage));
} cache SEC(".maps");

/* Counters (struct counters) of the knob points points, by half and possible CPU as
 * the cache. value_size and max_entries are set at load.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, 2 * sizeof(struct counters));
} point_counters SEC(".maps");

/* Evicted slots; a record is one or STAGE_SLOTS of them, and those without packets
 * are empty. User space polls it, so nothing is woken. The size, a power of
 * two of pages, is set at load from the memory budget.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} evictions SEC(".maps");

/* From a device's index to DEVICE_* bits. User space writes an entry before it
 * attaches to the device; 0 means none, and such packets count at points 0 and 1.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DIRECT_DEVICES);
	__type(key, __u32);
	__type(value, __u32);
} devices SEC(".maps");

/* The same for devices whose index is DIRECT_DEVICES or more: hosts that have
 * made that many interfaces since they booted.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} distant_devices SEC(".maps");

#define DEVICE_POINT_MASK 0xffff     /* the device's ingress point */
#define DEVICE_LAYER3	  (1U << 16) /* packets start with the IP header */

struct grace_member {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
};

/* Its updates make user space wait for an RCU grace period (kernel/bpf/syscall.c,
 * maybe_wait_bpf_programs): after one, no run of the program that began before
 * the halves were swapped is still under way. The program never reads it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct grace_member);
} grace SEC(".maps");
