package store

import (
	"net/netip"
	"slices"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// exporter is what the store knows of one exporter.
type exporter struct {
	id       uint32
	name     string
	up       bool
	runs     []run
	networks []netip.Prefix // as the last epoch gave them
	last     uint64         // sequence of the last epoch
	refused  uint64         // sketches of another key
	skew     skew
}

// run is a span of time of which the store has every epoch.
type run struct{ from, to time.Time }

// maxRuns bounds the memory of an exporter that comes and goes.
const maxRuns = 64

// gap is the greatest distance between the end of an epoch and the start of the
// next that is still one run. Sequences tell what was missed; this is for an
// exporter that was restarted and happens to be at the right one.
const gap = time.Second

// extend notes an epoch. It returns true if a new run began.
func (x *exporter) extend(e *epoch.Epoch) bool {
	contiguous := e.Sequence == x.last+1
	x.last = e.Sequence
	if n := len(x.runs); n > 0 && contiguous && e.Start.Sub(x.runs[n-1].to) <= gap {
		x.runs[n-1].to = e.End
		return false
	}
	if len(x.runs) == maxRuns {
		x.runs = slices.Delete(x.runs, 0, 1)
	}
	x.runs = append(x.runs, run{e.Start, e.End})
	return true
}

// covers says that all traffic of the host between the two times is in the store
// or, as the exporter is up, still on its way.
func (x *exporter) covers(from, to time.Time) bool {
	for i, r := range x.runs {
		open := x.up && i == len(x.runs)-1
		if !r.from.After(from) && (open || !r.to.Before(to)) {
			return true
		}
	}
	return false
}

// readUntil returns the end of the last epoch.
func (x *exporter) readUntil() time.Time {
	if len(x.runs) == 0 {
		return time.Time{}
	}
	return x.runs[len(x.runs)-1].to
}

// forget drops runs that ended before the retention.
func (x *exporter) forget(before time.Time) {
	x.runs = slices.DeleteFunc(x.runs, func(r run) bool { return r.to.Before(before) && !x.up })
}
