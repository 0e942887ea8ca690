package capture

import (
	"os"
	"strings"
	"time"

	"github.com/cilium/ebpf"

	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/fold"
)

// Health is how the capture does: its counters since New, all else as of the end of
// an epoch.
type Health struct {
	End time.Time     // of the epoch
	Lag time.Duration // by how much the epoch ended after its time

	CacheEntries, CacheRoom int    // slots of the kernel's flow cache with traffic, of all CPUs
	TableEntries, TableRoom int    // entries of the flow table with traffic: flows, at each of their points
	RingPeak, RingRoom      uint64 // most bytes that waited in the ring buffer, in the last one to two minutes
	Evictions               uint64 // entries that left the cache before an epoch's end, but for those in the remainder
	Folds                   uint64 // flows that left the flow table with traffic
}

// Health returns how the capture did in the last epoch, nil before the first one. Safe
// for concurrent use.
func (c *Capture) Health() *Health { return c.health.Load() }

// noteTable takes over how full the flow table was.
func (h *Health) noteTable(o fold.Occupancy) {
	h.TableEntries = o.Entries
	h.Folds += o.Folds
}

// publish makes what was measured of an epoch known.
func (c *Capture) publish(end time.Time) {
	h, r := &c.measured, c.kernel.ring
	h.End, h.Lag = end, max(0, end.Sub(c.boundary(c.start)))
	h.CacheRoom, h.TableRoom = c.kernel.layout.cacheSlots(), c.kernel.layout.TableEntries
	h.RingPeak, h.RingRoom = c.ringPeak.note(r.peak, end), r.size()
	h.Evictions, r.peak = r.taken, 0
	published := *h
	c.health.Store(&published)
}

// peakSpan is for how long at least a peak is seen: longer than between two scrapes.
const peakSpan = time.Minute

// peak is the greatest value of the last one to two peakSpans.
type peak struct {
	now, before uint64 // since since, and in the peakSpan before that
	since       time.Time
}

func (p *peak) note(value uint64, at time.Time) uint64 {
	if at.Sub(p.since) >= peakSpan {
		p.now, p.before, p.since = 0, p.now, at
	}
	p.now = max(p.now, value)
	return max(p.now, p.before)
}

// MemoryUse is a part of the memory budget.
type MemoryUse struct {
	Part  string
	Bytes int
}

// Memory lists what the budget went to. It doesn't change.
func (c *Capture) Memory() []MemoryUse { return c.kernel.layout.uses() }

// ProgramStats is what the kernel measured of the program of a direction since it was
// loaded.
type ProgramStats struct {
	Direction flow.Direction
	Runs      uint64
	Time      time.Duration // of all runs
}

// ProgramStats returns what the kernel measured; nothing unless it is told to
// (kernel.bpf_stats_enabled), which costs it some tens of nanoseconds a run. Safe for
// concurrent use, until Close.
func (c *Capture) ProgramStats() []ProgramStats {
	enabled, err := os.ReadFile("/proc/sys/kernel/bpf_stats_enabled")
	if err != nil || strings.TrimSpace(string(enabled)) == "0" {
		return nil
	}
	var all []ProgramStats
	for direction, program := range [...]*ebpf.Program{
		flow.Ingress: c.kernel.objects.CaptureIngress,
		flow.Egress:  c.kernel.objects.CaptureEgress,
	} {
		if s, err := program.Stats(); err == nil {
			all = append(all, ProgramStats{flow.Direction(direction), s.RunCount, s.Runtime})
		}
	}
	return all
}
