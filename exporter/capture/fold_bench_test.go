package capture_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/traffic-monitor-agent/tma/exporter/capture"
	"github.com/traffic-monitor-agent/tma/exporter/collector"
	"github.com/traffic-monitor-agent/tma/exporter/window"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// load is traffic of one epoch: what is evicted from the cache, poll by poll, and
// what is in it in the end.
type load struct {
	memory  uint64
	length  time.Duration // of an epoch
	evicted int
	cached  int
	flow    func(r *rand.Rand) capture.ReplayedFlow
}

const pollInterval = 25 * time.Millisecond

// newFlow is of a population of hosts that talk to a few thousand servers.
func newFlow(r *rand.Rand) capture.ReplayedFlow {
	return capture.ReplayedFlow{Source: 10<<24 | r.Uint32N(1<<20), Destination: 192<<24 | r.Uint32N(1<<12), Port: uint16(r.Uint32()), Hash: r.Uint64()}
}

// spoofed is a packet from anywhere to anywhere.
func spoofed(r *rand.Rand) capture.ReplayedFlow {
	return capture.ReplayedFlow{Source: r.Uint32(), Destination: r.Uint32(), Port: uint16(r.Uint32()), Hash: r.Uint64()}
}

// someOf draws from so many flows.
func someOf(flows int) func(*rand.Rand) capture.ReplayedFlow {
	all := make([]capture.ReplayedFlow, flows)
	r := rand.New(rand.NewPCG(5, 5))
	for i := range all {
		all[i] = newFlow(r)
	}
	return func(r *rand.Rand) capture.ReplayedFlow { return all[r.IntN(flows)] }
}

// BenchmarkFold is what user space costs, from the ring buffer to the last window,
// in processor time, that of the garbage collector included. Writing the ring, which
// is the kernel's part, isn't.
func BenchmarkFold(b *testing.B) {
	const half = 500 * time.Millisecond
	for _, bench := range []struct {
		name string
		load
	}{
		{"50k_packets_per_s_of_100k_flows", load{64 << 20, half, 17_000, 8000, someOf(100_000)}},
		{"166k_new_flows_per_s", load{64 << 20, half, 75_000, 8000, newFlow}},
		{"500k_new_flows_per_s", load{64 << 20, half, 242_000, 8000, newFlow}},
		{"500k_spoofed_per_s_2s_epochs", load{64 << 20, 4 * half, 992_000, 8000, spoofed}},
		{"500k_spoofed_per_s_16MiB", load{16 << 20, half, 242_000, 8000, spoofed}},
	} {
		b.Run(bench.name, func(b *testing.B) { bench.run(b) })
	}
}

// run measures epochs; the first ones, until tables are full and memory is there,
// don't count.
func (l load) run(b *testing.B) {
	replay, sink := capture.NewReplay(b, l.memory), newSink(b)
	r := rand.New(rand.NewPCG(1, 1))
	var busy, ends []time.Duration
	var flows, folded uint64
	perPoll := l.evicted / int(l.length/pollInterval)
	for n := 0; n < 4 || b.Loop(); n++ {
		var polling time.Duration
		for left := l.evicted; left > 0; left -= perPoll {
			replay.Evict(l.flows(r, min(perPoll, left)))
			if left > perPoll { // the rest is for the end
				polling += measure(b, replay.Poll)
			}
		}
		replay.Cache(l.flows(r, min(l.cached, replay.CacheSlots())))
		end := measure(b, func() {
			replay.EndEpoch(b, func(e *epoch.Epoch, drain time.Duration) {
				sink(e, drain)
				if n < 4 {
					wantAccounted(b, e)
				}
				flows, folded = uint64(len(e.Flows)), e.Folded(flow.Source).Packets
			})
		})
		if n >= 4 {
			busy, ends = append(busy, polling+end), append(ends, end)
		}
	}
	slices.Sort(busy)
	slices.Sort(ends)
	b.ReportMetric(0, "ns/op") // generating the load is most of it
	b.ReportMetric(100*float64(busy[len(busy)/2])/float64(l.length), "%core-median")
	b.ReportMetric(100*float64(busy[0])/float64(l.length), "%core-min")
	b.ReportMetric(ends[len(ends)/2].Seconds()*1e3, "end-ms-median")
	b.ReportMetric(ends[0].Seconds()*1e3, "end-ms-min")
	b.ReportMetric(float64(flows), "flows")
	b.ReportMetric(float64(folded), "folded")
}

func (l load) flows(r *rand.Rand, n int) []capture.ReplayedFlow {
	all := make([]capture.ReplayedFlow, n)
	for i := range all {
		all[i] = l.flow(r)
	}
	return all
}

// measure returns the processor time that the process takes meanwhile.
func measure(b *testing.B, f func()) time.Duration {
	began := processTime(b)
	f()
	return processTime(b) - began
}

func processTime(b *testing.B) time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &now); err != nil {
		b.Fatal(err)
	}
	return time.Duration(now.Nano())
}

// newSink is all that takes epochs in an exporter.
func newSink(b *testing.B) func(*epoch.Epoch, time.Duration) {
	history := window.NewHistory(window.HistoryConfig{Flows: 1000, Retention: 2 * time.Minute, MaxBytes: 16 << 20})
	topk, cardinality := window.NewTopK(20, 15*time.Second), window.NewCardinality()
	flows := window.NewFlowSketch(history, 2*time.Minute)
	entropy, peers := window.NewEntropy(), window.NewPeers(20)
	metrics := collector.New(collector.Config{Start: time.Now()})
	return func(e *epoch.Epoch, drain time.Duration) {
		if err := history.Add(e); err != nil {
			b.Fatal(err)
		}
		flows.Add(e)
		metrics.Add(e, drain)
		topk.Add(e, history.Trimmed())
		cardinality.Add(e)
		entropy.Add(e)
		peers.Add(e)
	}
}

func wantAccounted(b *testing.B, e *epoch.Epoch) {
	b.Helper()
	for _, d := range flow.Dimensions {
		if left := e.Unaccounted(d); left != (epoch.Count{}) {
			b.Fatalf("%v unaccounted", left)
		}
	}
}
