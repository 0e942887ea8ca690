/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Constants that user space sets before the program is loaded, and the one
 * variable that it changes while the program runs.
 */
#pragma once

#include <linux/types.h>

#include "types.h"

const volatile __u32 possible_cpus = 1;
const volatile __u32 cache_sets = 1; /* in one CPU's half; a power of two */
const volatile __u32 points = 2;     /* twice the greatest number of devices */

/* Not 0: a kernel with PREEMPT_RT, where bottom halves may be preempted. */
const volatile __u32 preempt_rt = 0;

/* Random for each load: nobody can aim packets at one set. */
const volatile __u64 seed[5] = {};

/* The half of cache and counters that packets count in, 0 or 1. */
volatile __u32 active_half = 0;
