package capture

import (
	"github.com/traffic-monitor-agent/tma/bpf"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/fold"
)

// reasons are the labels of the kernel's enum, by its number.
var reasons = [...]string{
	bpf.CaptureReasonREASON_NONE:         "",
	bpf.CaptureReasonREASON_NOT_IP:       "not_ip",
	bpf.CaptureReasonREASON_ENCAPSULATED: "encapsulated",
	bpf.CaptureReasonREASON_TRUNCATED:    "truncated",
	bpf.CaptureReasonREASON_MALFORMED:    "malformed",
	bpf.CaptureReasonREASON_EXTENSIONS:   "extensions",
}

// pointTotals is what all CPUs counted at one point.
type pointTotals struct {
	total, remainder epoch.Count
	others           [len(reasons)]epoch.Count
}

func countOf(c bpf.CaptureCount) epoch.Count { return epoch.Count{Packets: c.Packets, Bytes: c.Bytes} }

func (t *pointTotals) add(c *bpf.CaptureCounters) {
	t.total.Add(countOf(c.Total))
	t.remainder.Add(countOf(c.Remainder))
	for i := range t.others {
		t.others[i].Add(countOf(c.Others[i]))
	}
}

func (t *pointTotals) sub(o *pointTotals) {
	t.total.Sub(o.total)
	t.remainder.Sub(o.remainder)
	for i := range t.others {
		t.others[i].Sub(o.others[i])
	}
}

// totals turns the kernel's counters, which only grow, into those of each epoch.
type totals struct {
	kernel *kernel
	seen   [2][]pointTotals // by half and point: what earlier epochs took
	now    []pointTotals
}

func newTotals(k *kernel) *totals {
	n := k.layout.points()
	return &totals{
		kernel: k,
		seen:   [2][]pointTotals{make([]pointTotals, n), make([]pointTotals, n)},
		now:    make([]pointTotals, n),
	}
}

// take returns what was counted at each point in the half since the last take.
// The half must be idle. The slice is valid until the next call.
func (t *totals) take(h fold.Half) []pointTotals {
	clear(t.now)
	for cpu := range t.kernel.layout.CPUs {
		counters := t.kernel.halfCounters(h, cpu)
		for point := range t.now {
			if counters[point].Total.Packets != 0 {
				t.now[point].add(&counters[point])
			}
		}
	}
	for point := range t.now {
		all := t.now[point]
		t.now[point].sub(&t.seen[h][point])
		t.seen[h][point] = all
	}
	return t.now
}
