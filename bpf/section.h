/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The critical section: what only one run at a time may be in, on one CPU.
 *
 * The tc hooks run with bottom halves off. On kernels without PREEMPT_RT that keeps
 * ingress and egress apart by itself, and on PREEMPT_RT it takes a per-CPU lock, up
 * to Linux 6.17 always, since then (3253cb49cbad) only if so configured. So on
 * PREEMPT_RT the section turns preemption off, where the kernel offers that (6.10).
 * No helper that takes a lock is called within: on PREEMPT_RT locks sleep.
 *
 * Where the knob is 0 the verifier removes all of it: the knob is constant to it.
 */
#pragma once

#include <bpf/bpf_helpers.h>

#include "knobs.h"

extern void bpf_preempt_disable(void) __ksym __weak;
extern void bpf_preempt_enable(void) __ksym __weak;

static __always_inline void section_enter(void)
{
	if (!preempt_rt)
		return;
	barrier(); /* one condition after the other: behind the first all is removed */
	if (bpf_preempt_disable)
		bpf_preempt_disable();
}

static __always_inline void section_leave(void)
{
	if (!preempt_rt)
		return;
	barrier();
	if (bpf_preempt_enable)
		bpf_preempt_enable();
}
