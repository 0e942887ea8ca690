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

func (t *pointTotals) addTotals(o *pointTotals) {
	t.total.Add(o.total)
	t.remainder.Add(o.remainder)
	for i := range t.others {
		t.others[i].Add(o.others[i])
	}
}

// totals adds up the kernel's counters of an epoch.
type totals struct {
	kernel *kernel
	now    []pointTotals
	// extra is what another kernel counted before this one; nil if there was none.
	extra []pointTotals
}

func newTotals(k *kernel) *totals {
	return &totals{kernel: k, now: make([]pointTotals, k.layout.points())}
}

// take returns what was counted at each point in the half since it was cleared. The
// half must be idle. The slice is valid until the next call.
func (t *totals) take(h fold.Half) []pointTotals {
	clear(t.now)
	t.kernel.addCounters(h, func(point int, c *bpf.CaptureCounters) { t.now[point].add(c) })
	for point := range t.extra {
		t.now[point].addTotals(&t.extra[point])
	}
	t.extra = nil
	return t.now
}

// addCounters calls add with the counters of each point on each CPU.
func (k *kernel) addCounters(h fold.Half, add func(point int, c *bpf.CaptureCounters)) {
	for cpu := range k.layout.CPUs {
		counters := k.halfCounters(h, cpu)
		for point := range counters {
			if counters[point].Total.Packets != 0 {
				add(point, &counters[point])
			}
		}
	}
}
