package capture

import (
	"errors"
	"maps"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/traffic-monitor-agent/tma/bpf"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// loadSection loads the program as for a kernel with or without PREEMPT_RT.
func loadSection(t *testing.T, rt bool) *kernel {
	t.Helper()
	testutil.RequireRoot(t)
	layout, err := newLayout(16<<20, runtime.NumCPU())
	must(t, err)
	layout.Sets = 64
	spec, err := configuredObject(layout, randomSeed())
	must(t, err)
	must(t, spec.Variables[bpf.CaptureVarPreemptRt].Set(flag(rt)))
	k, err := loadKernel(spec, layout, nil)
	must(t, err)
	t.Cleanup(func() { must(t, k.close()) })
	return k
}

// kernelCalls counts the kernel functions that the loaded program calls: it knows
// only those that enter and leave the section.
func kernelCalls(t *testing.T, program *ebpf.Program) int {
	t.Helper()
	info, err := program.Info()
	must(t, err)
	instructions, err := info.Instructions()
	must(t, err)
	calls := 0
	for _, i := range instructions {
		if i.IsKfuncCall() {
			calls++
		}
	}
	return calls
}

// offersPreemption says whether the kernel has the functions of the section (6.10).
func offersPreemption(t *testing.T) bool {
	t.Helper()
	spec, err := btf.LoadKernelSpec()
	must(t, err)
	var function *btf.Func
	err = spec.TypeByName("bpf_preempt_disable", &function)
	if err != nil && !errors.Is(err, btf.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

// Where the kernel is PREEMPT_RT and has the functions, the program turns preemption
// off (that it is on again on every path, the verifier checks); elsewhere nothing of
// that is left in it.
func TestSectionIsInTheProgram(t *testing.T) {
	offered := offersPreemption(t)
	for _, rt := range []bool{false, true} {
		k := loadSection(t, rt)
		for _, program := range []*ebpf.Program{k.objects.CaptureIngress, k.objects.CaptureEgress} {
			calls := kernelCalls(t, program)
			if protected := calls > 0; protected != (rt && offered) {
				t.Errorf("PREEMPT_RT %v, functions offered %v: %v calls them %d times", rt, offered, program, calls)
			}
		}
	}
	rt, err := preemptRT()
	must(t, err)
	spec, err := configuredObject(Layout{CPUs: 1, Sets: 1, Devices: 1, RingBytes: 4096}, randomSeed())
	must(t, err)
	var knob uint32
	must(t, spec.Variables[bpf.CaptureVarPreemptRt].Get(&knob))
	if knob != flag(rt) {
		t.Errorf("on a kernel with PREEMPT_RT %v the knob is %d", rt, knob)
	}
}

// What the program does for PREEMPT_RT counts every flow exactly, wherever it runs.
func TestSectionCountsExactly(t *testing.T) {
	k := loadSection(t, true)
	c := &Capture{kernel: k}
	r := rand.New(rand.NewPCG(3, 3))
	// By source alone, in which the flows differ.
	got, want := map[[16]byte]epoch.Count{}, map[[16]byte]epoch.Count{}
	take := func(slot *bpf.CaptureSlot) {
		sum := got[slot.Key.Source]
		sum.Add(epoch.Count{Packets: slot.Packets, Bytes: slot.Bytes})
		got[slot.Key.Source] = sum
	}
	for range 10_000 {
		p := udpPacket(uint32(r.IntN(1000)), 20+r.IntN(100))
		sum := want[p.key.Source]
		sum.Add(epoch.Count{Packets: 1, Bytes: uint64(len(p.data))})
		want[p.key.Source] = sum
		c.run(t, p.data)
	}
	k.ring.drain(take)
	for i := range k.halfSlots(0) {
		if slot := &k.halfSlots(0)[i]; slot.Packets != 0 {
			take(slot)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("%d flows count otherwise than the %d that were sent", len(got), len(want))
	}
}
