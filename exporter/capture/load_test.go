package capture

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/traffic-monitor-agent/tma/bpf"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/fold"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// unprotectedVariable, in the environment, loads the program as on a kernel
// without PREEMPT_RT. lab/kernels sets it where the load test has to fail then.
const unprotectedVariable = "TMA_LOAD_UNPROTECTED"

const (
	loadWires   = 2
	loadFlows   = 32     // of each wire
	loadPackets = 80_000 // of the threads that aren't real-time ones
)

// Packets from more threads than CPUs, every other one of them SCHED_FIFO, so that
// it preempts whatever runs when its time comes, all in the same few flows, and once
// in a cache of a single set, where any two runs that interleave collide: every
// flow's count at every hook must be what was sent. Sums wouldn't do: two runs that
// interleave mix flows up and leave the sums nearly right.
func TestLoad(t *testing.T) {
	tests := map[string]struct {
		sets            int // of a CPU
		atLeast, atMost float64
	}{
		"evicting cache": {sets: 1, atLeast: 0.02, atMost: 1},
		"ample cache":    {sets: 4096, atLeast: 0, atMost: 0.05},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			testutil.InNamespace(t, func(t *testing.T) {
				evicted := runLoad(t, test.sets)
				if evicted < test.atLeast || evicted > test.atMost {
					t.Errorf("%.1f %% of the packets evicted a flow, want %.0f to %.0f %%",
						100*evicted, 100*test.atLeast, 100*test.atMost)
				}
			})
		})
	}
}

// runLoad compares all flows and returns the evictions a packet.
func runLoad(t *testing.T, sets int) float64 {
	for i := range loadWires {
		addVeth(t, fmt.Sprintf("left%d", i), fmt.Sprintf("right%d", i))
	}
	observer := newObserver(t, sets)
	senders := newSenders(t, max(8, 3*runtime.NumCPU()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		senders.run(t)
	}()
	observer.follow(t, done)
	observer.settle(t, senders.packets())
	if t.Failed() {
		t.FailNow()
	}
	observer.compare(t, senders.truth())
	return float64(observer.evictions) / float64(2*senders.packets())
}

// place is a flow at a hook: what one slot of the cache counts.
type place struct {
	point string // device and direction
	flow  uint32 // the number of the flow
}

// observer takes what the kernel hands over, without any of the exporter's own
// tables.
type observer struct {
	kernel    *kernel
	devices   *devices
	half      fold.Half
	seen      map[bpf.CaptureKey]epoch.Count // half is 0
	evictions int
	swaps     int
}

func newObserver(t *testing.T, sets int) *observer {
	t.Helper()
	k := loadWithSets(t, sets)
	config := Config{Include: regexp.MustCompile("^(left|right).*$"), Epoch: time.Second}
	d := newDevices(k, config, nil, slog.New(slog.DiscardHandler))
	must(t, d.sync())
	t.Cleanup(func() {
		d.detach()
		must(t, k.close())
	})
	if n := len(d.attachments()); n != 4*loadWires {
		t.Fatalf("%d hooks, want %d: %v", n, 4*loadWires, d.attachments())
	}
	return &observer{kernel: k, devices: d, seen: map[bpf.CaptureKey]epoch.Count{}}
}

// loadWithSets loads the program with a cache of any size and a ring that holds
// all evictions of a tenth of a second.
func loadWithSets(t *testing.T, sets int) *kernel {
	t.Helper()
	layout, err := newLayout(64<<20, runtime.NumCPU())
	must(t, err)
	layout.Sets = sets
	spec, err := configuredObject(layout, randomSeed())
	must(t, err)
	if os.Getenv(unprotectedVariable) != "" {
		must(t, spec.Variables[bpf.CaptureVarPreemptRt].Set(uint32(0)))
	}
	k, err := loadKernel(spec, layout, nil)
	must(t, err)
	return k
}

func (o *observer) book(slot *bpf.CaptureSlot) {
	key := slot.Key
	key.Half = 0
	c := o.seen[key]
	c.Add(epoch.Count{Packets: slot.Packets, Bytes: slot.Bytes})
	o.seen[key] = c
}

func (o *observer) drain() {
	o.kernel.ring.drain(func(slot *bpf.CaptureSlot) {
		o.evictions++
		o.book(slot)
	})
}

// swap ends an epoch.
func (o *observer) swap(t *testing.T) {
	idle := o.half
	if err := o.kernel.activate(1 - idle); err != nil {
		t.Error(err)
	}
	o.half = 1 - idle
	o.swaps++
	o.drain()
	slots := o.kernel.halfSlots(idle)
	for i := range slots {
		if slots[i].Packets != 0 {
			o.book(&slots[i])
			slots[i].Packets = 0
		}
	}
}

// follow drains and swaps, as an exporter does but faster, until done is closed.
func (o *observer) follow(t *testing.T, done <-chan struct{}) {
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for polls := 0; ; polls++ {
		select {
		case <-done:
			return
		case <-poll.C:
			if polls%20 == 0 {
				o.swap(t)
			} else {
				o.drain()
			}
		}
	}
}

// settle waits until the receiving ends have what was sent, then takes the rest.
func (o *observer) settle(t *testing.T, sent uint64) {
	testutil.Eventually(t, 20*time.Second, "what was sent is received", func() bool {
		var received uint64
		for i := range loadWires {
			for _, end := range []string{"left", "right"} {
				l, err := netlink.LinkByName(fmt.Sprintf("%s%d", end, i))
				must(t, err)
				if s := l.Attrs().Statistics; s.TxDropped+s.RxDropped != 0 {
					t.Fatalf("%s dropped %d packets going out, %d coming in: the test's wire isn't ample", l.Attrs().Name, s.TxDropped, s.RxDropped)
				}
				received += l.Attrs().Statistics.RxPackets
			}
		}
		return received == sent
	})
	o.swap(t)
	o.swap(t)
}

// compare demands the truth, place by place, and nothing beside it.
func (o *observer) compare(t *testing.T, want map[place]epoch.Count) {
	t.Helper()
	names := o.points()
	got := map[place]epoch.Count{}
	for key, c := range o.seen {
		number, ok := flowNumber(&key)
		if !ok || names[int(key.Point)] == "" {
			t.Errorf("a flow that nobody sent: %+v with %v", key, c)
			continue
		}
		got[place{names[int(key.Point)], number}] = c
	}
	wrong := 0
	var sent, counted epoch.Count
	for p, c := range want {
		sent.Add(c)
		counted.Add(got[p])
		if got[p] == c {
			continue
		}
		if wrong++; wrong <= 5 {
			t.Errorf("flow %d at %s: counted %v, sent %v", p.flow, p.point, got[p], c)
		}
	}
	if wrong > 0 || len(got) != len(want) {
		t.Errorf("%d of %d flows are wrong, %d were counted; in sum %v counted, %v sent", wrong, len(want), len(got), counted, sent)
	}
	o.compareTotals(t, names, want)
	t.Logf("%d packets of %d flows at %d hooks are exact; %d evictions, %d epochs", sent.Packets, len(want), len(names), o.evictions, o.swaps)
}

// compareTotals demands that each hook's own counters are the truth, too.
func (o *observer) compareTotals(t *testing.T, names map[int]string, want map[place]epoch.Count) {
	t.Helper()
	sent, counted := map[string]epoch.Count{}, map[string]epoch.Count{}
	for p, c := range want {
		sum := sent[p.point]
		sum.Add(c)
		sent[p.point] = sum
	}
	totals := newTotals(o.kernel)
	for _, half := range []fold.Half{0, 1} {
		for point, total := range totals.take(half) {
			if total.total == (epoch.Count{}) {
				continue
			}
			sum := counted[names[point]]
			sum.Add(total.total)
			counted[names[point]] = sum
			if total.remainder != (epoch.Count{}) {
				t.Errorf("%s: remainder %v, the test's ring isn't ample", names[point], total.remainder)
			}
		}
	}
	if !maps.Equal(sent, counted) {
		t.Errorf("the hooks counted %v, sent %v", counted, sent)
	}
}

// points names all points of the attached devices.
func (o *observer) points() map[int]string {
	o.devices.mu.Lock()
	defer o.devices.mu.Unlock()
	names := map[int]string{}
	for _, d := range o.devices.byIndex {
		names[2*d.number] = d.name + " ingress"
		names[2*d.number+1] = d.name + " egress"
	}
	return names
}
