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
	networks []netip.Prefix  // as the last epoch gave them; never written
	last     uint64          // sequence of the last epoch
	refused  uint64          // sketches of another key
	below    epoch.Exporters // if it is an aggregator; as the last epoch gave them
	skew     skew
}

// run is a span of time of which the store has every epoch, and in which the host had
// the same networks.
type run struct {
	from, to time.Time
	networks []netip.Prefix
	joined   bool // to the run before: only the networks are others
}

func (r *run) has(network netip.Prefix) bool { return slices.Contains(r.networks, network) }

// maxRuns bounds the memory of an exporter that comes and goes.
const maxRuns = 64

// gap is the greatest distance between the end of an epoch and the start of the
// next that is still one run. Sequences tell what was missed; this is for an
// exporter that was restarted and happens to be at the right one.
const gap = time.Second

// extend notes an epoch. It returns true if a new run began.
func (x *exporter) extend(e *epoch.Epoch) bool {
	n := len(x.runs)
	contiguous := n > 0 && e.Sequence == x.last+1 && e.Start.Sub(x.runs[n-1].to) <= gap
	x.last = e.Sequence
	moved := !slices.Equal(x.networks, e.LocalNetworks)
	if contiguous && !moved {
		x.runs[n-1].to = e.End
		return false
	}
	if moved {
		x.networks = slices.Clone(e.LocalNetworks)
	}
	if n == maxRuns {
		x.runs = slices.Delete(x.runs, 0, 1)
	}
	x.runs = append(x.runs, run{from: e.Start, to: e.End, networks: x.networks, joined: contiguous})
	return true
}

// span is a part of time.
type span struct{ from, to time.Time }

func spanOf(e *epoch.Epoch) span { return span{e.Start, e.End} }

// overlap returns how much of the span is between the two times.
func (s span) overlap(from, to time.Time) time.Duration {
	return max(0, earlier(s.to, to).Sub(later(s.from, from)))
}

// coverage is how much of a span's traffic the store has of a host.
type coverage uint8

const (
	none coverage = iota
	partly
	wholly
)

// border is how far hosts may disagree about when a packet was: within so much of a
// run's end, what another host saw is covered partly.
const border = 10 * time.Millisecond

// coverage says how much of the host's traffic in a span is in the store or, as the
// exporter is up, still on its way.
func (x *exporter) coverage(s span) coverage {
	return x.coverageWhere(s, func(*run) bool { return true })
}

// coverageWhere is coverage by some runs only.
func (x *exporter) coverageWhere(s span, counts func(*run) bool) (best coverage) {
	for i := len(x.runs) - 1; i >= 0 && best != wholly; i-- {
		r := x.runs[i]
		if !counts(&r) {
			continue
		}
		open := x.up && i == len(x.runs)-1
		for ; r.joined && i > 0 && counts(&x.runs[i-1]); i-- {
			r.from, r.joined = x.runs[i-1].from, x.runs[i-1].joined
		}
		switch {
		case !open && r.to.Add(border).Before(s.from):
			return best // and so are those before
		case r.from.Add(-border).After(s.to):
		case r.from.Add(border).After(s.from) || !open && r.to.Add(-border).Before(s.to):
			best = partly
		default:
			best = wholly
		}
	}
	return best
}

// covered returns how much of a span is in the host's runs.
func (x *exporter) covered(s span) (sum time.Duration) {
	for i, r := range x.runs {
		if x.up && i == len(x.runs)-1 {
			r.to = later(r.to, s.to)
		}
		sum += s.overlap(r.from, r.to)
	}
	return sum
}

// nearBorder says that a run begins or ends near a span, so that others may cover
// the span partly for want of this exporter.
func (x *exporter) nearBorder(s span) bool {
	near := func(at time.Time) bool {
		return at.After(s.from.Add(-maxBorderEpoch)) && at.Before(s.to.Add(maxBorderEpoch))
	}
	for i, r := range x.runs {
		if near(r.from) || near(r.to) && !(x.up && i == len(x.runs)-1) {
			return true
		}
	}
	return false
}

// maxBorderEpoch is how long other hosts' epochs are at most for which the epochs at
// the ends of a run are kept.
const maxBorderEpoch = 2 * time.Second

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
