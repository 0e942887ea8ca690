package top

import (
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
)

// windows are the spans over which rates are taken, ascending.
var windows = [...]time.Duration{2 * time.Second, 10 * time.Second, 40 * time.Second}

// sums is traffic in each of the windows.
type sums [len(windows)]epoch.Count

// addFrom adds to the window of the given index and to all longer ones.
func (s *sums) addFrom(from int, c epoch.Count) {
	for i := from; i < len(s); i++ {
		s[i].Add(c)
	}
}

func (s *sums) add(other *sums) {
	for i := range s {
		s[i].Add(other[i])
	}
}

func (s *sums) sub(other *sums) {
	for i := range s {
		s[i].Sub(other[i])
	}
}

// history is the epochs that the windows reach back to, oldest first.
type history struct {
	epochs []*epoch.Epoch
	size   int // of all epochs, as sizeOf says
}

// Bounds on what is kept, whatever an exporter sends: the longest window of the
// shortest epochs, and 64 MiB or so.
const (
	maxKept     = 512
	maxKeptSize = 64 << 20
)

// sizeOf is about how many bytes an epoch takes.
func sizeOf(e *epoch.Epoch) int {
	const record = 64
	n := len(e.Devices) + len(e.Flows) + len(e.LocalNetworks)
	for i := range e.Ladders {
		n += len(e.Ladders[i].Entries)
	}
	for i := range e.Devices {
		n += len(e.Devices[i].Others)
	}
	return n*record + len(e.Sketches)*hll.Registers
}

// longestGap is how long nothing may be known between two epochs: a window that
// reached further back would call old traffic new.
const longestGap = 2 * time.Second

// add appends an epoch. After a gap, or when the exporter's clock was set, nothing
// from before it stays.
func (h *history) add(e *epoch.Epoch) {
	if last := h.newest(); last != nil {
		if gap := e.Start.Sub(last.End); gap > longestGap || gap < -longestGap {
			*h = history{}
		}
	}
	h.epochs = append(h.epochs, e)
	h.size += sizeOf(e)
	oldest, _ := h.reach(windows[len(windows)-1])
	for oldest > 0 || len(h.epochs) > maxKept || h.size > maxKeptSize && len(h.epochs) > 1 {
		h.size -= sizeOf(h.epochs[0])
		h.epochs[0] = nil
		h.epochs = h.epochs[1:]
		oldest--
	}
}

func (h *history) newest() *epoch.Epoch {
	if len(h.epochs) == 0 {
		return nil
	}
	return h.epochs[len(h.epochs)-1]
}

// clone returns the history as it is now.
func (h *history) clone() *history {
	return &history{epochs: append([]*epoch.Epoch(nil), h.epochs...), size: h.size}
}

// reach returns the first epoch of a window and how much time its epochs cover: as
// near to the window as whole epochs come, and at least one epoch.
func (h *history) reach(window time.Duration) (first int, covered time.Duration) {
	first = len(h.epochs)
	for first > 0 {
		e := h.epochs[first-1]
		span := e.End.Sub(e.Start)
		if covered > 0 && covered+span/2 >= window {
			break
		}
		covered += span
		first--
	}
	return first, covered
}

// covered returns how much time each window covers.
func (h *history) covered() (spans [len(windows)]time.Duration) {
	for i, window := range windows {
		_, spans[i] = h.reach(window)
	}
	return spans
}

// each calls visit with every epoch of the longest window, oldest first, and the
// shortest window that the epoch is in.
func (h *history) each(visit func(e *epoch.Epoch, shortest int)) {
	var first [len(windows)]int
	for i, window := range windows {
		first[i], _ = h.reach(window)
	}
	for i, e := range h.epochs {
		for shortest := range windows {
			if i >= first[shortest] {
				visit(e, shortest)
				break
			}
		}
	}
}

// totals is what the windows hold in all. Traffic is conserved:
//
//	all = duplicate + flows + folded + other + remainder + unaccounted
type totals struct {
	all, duplicate, flows, folded, other, remainder sums
}

// counted is what the host saw, each packet at one device.
func (t *totals) counted() sums {
	counted := t.all
	counted.sub(&t.duplicate)
	return counted
}

// unaccounted wraps around if more is accounted for than was seen.
func (t *totals) unaccounted() sums {
	left := t.counted()
	for _, part := range []*sums{&t.flows, &t.folded, &t.other, &t.remainder} {
		left.sub(part)
	}
	return left
}

func (h *history) totals() *totals {
	t := &totals{}
	h.each(func(e *epoch.Epoch, shortest int) {
		t.folded.addFrom(shortest, e.Folded(0))
		for i := range e.Flows {
			t.flows.addFrom(shortest, e.Flows[i].Count)
		}
		for i := range e.Devices {
			d := &e.Devices[i]
			t.all.addFrom(shortest, d.Total)
			t.duplicate.addFrom(shortest, d.Duplicate)
			t.remainder.addFrom(shortest, d.Remainder)
			for _, other := range d.Others {
				t.other.addFrom(shortest, other.Count)
			}
		}
	})
	return t
}

// distinct is what is counted distinctly, in the order in which it is shown.
var distinct = [...]string{epoch.OfFlows, epoch.OfSources, epoch.OfDestinations, epoch.OfDestinationPorts}

// estimates returns how many different things there were in a window. Sketches that
// aren't of the newest epoch's key have nothing in common with it and don't count.
func (h *history) estimates(window time.Duration) (estimates [len(distinct)]float64) {
	first, _ := h.reach(window)
	for i, of := range distinct {
		var union hll.Sketch
		var key *uint64
		for j := len(h.epochs) - 1; j >= first; j-- {
			for k := range h.epochs[j].Sketches {
				s := &h.epochs[j].Sketches[k]
				if s.Of != of || key != nil && *key != s.KeyFingerprint {
					continue
				}
				key = &s.KeyFingerprint
				union.Merge(s.HLL)
			}
		}
		estimates[i] = union.Estimate()
	}
	return estimates
}
