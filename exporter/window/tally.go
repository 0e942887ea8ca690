package window

import (
	"math"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// What a key's usual traffic is.
const (
	// memoryWindows is the time constant, in windows, by which the past is forgotten.
	memoryWindows = 10
	// deviations is how many standard deviations are left to chance.
	deviations = 3
	// changed is the ratio of a window's bytes to the usual ones, or the inverse, from
	// which on the past doesn't count any more, if it is more than changedDeviations
	// explain: something began or ended.
	changed           = 4
	changedDeviations = 5
)

// tally is what a ranking knows of a key: what came in the window, and what usually
// comes, with the noise in it. Noise is that of panes against each other, so that it
// is right for packets that come in bursts, too.
type tally struct {
	epoch.Count         // over the window
	squares     float64 // of the window's panes' bytes, summed
	past        past
	silent      int  // panes since the last packet
	pane        bool // had packets in the last one
	entry       bool
}

// past is a sum over panes, of which older ones count less.
type past struct{ panes, bytes, squares float64 }

// weights say how much less.
type weights struct {
	panes  float64 // of a window
	kept   float64 // what is left of the past after a pane
	window float64 // what the panes of a window count for, together
}

func newWeights(panes float64) weights {
	kept := math.Exp(-1 / (memoryWindows * panes))
	return weights{panes, kept, kept * (1 - math.Pow(kept, panes)) / (1 - kept)}
}

// add counts a pane.
func (t *tally) add(c epoch.Count) {
	t.Count.Add(c)
	square := float64(c.Bytes) * float64(c.Bytes)
	t.squares += square
	t.past.bytes += float64(c.Bytes)
	t.past.squares += square
	t.pane = true
}

// remove takes a pane of the window away.
func (t *tally) remove(c epoch.Count) {
	t.Sub(c)
	t.squares = max(0, t.squares-float64(c.Bytes)*float64(c.Bytes))
}

// idle says whether there was no traffic in the window.
func (t *tally) idle() bool { return t.Count == epoch.Count{} }

// age ends a pane.
func (t *tally) age(w *weights) {
	t.silent++
	if t.pane {
		t.silent, t.pane = 0, false
	}
	t.past.panes = (t.past.panes + 1) * w.kept
	t.past.bytes *= w.kept
	t.past.squares *= w.kept
	if t.past.panes > w.window && t.hasChanged(w) {
		share := w.window / w.panes
		t.past = past{w.window, float64(t.Bytes) * share, t.squares * share}
	}
}

// hasChanged says whether the window's traffic can't be the usual.
func (t *tally) hasChanged(w *weights) bool {
	windows := t.past.panes / w.window
	usual, now := t.past.bytes/windows, float64(t.Bytes)*w.window/w.panes
	if now < changed*usual && usual < changed*now {
		return false
	}
	return math.Abs(now-usual) > changedDeviations*t.past.deviation(t.past.panes)/math.Sqrt(windows)
}

// usual returns the usual bytes of a window, and so many standard deviations more. A
// key that is younger than a window counts as one that did nothing before.
func (p *past) usual(w *weights, deviations float64) uint64 {
	of, bytes := max(w.window, p.panes), p.bytes
	if deviations != 0 {
		bytes += deviations * p.deviation(of)
	}
	return uint64(math.Ceil(max(0, bytes) * w.panes / of))
}

// deviation is the standard deviation of the past's bytes if it was of so many panes,
// all of which vary alike and independently.
func (p *past) deviation(panes float64) float64 {
	return math.Sqrt(max(0, p.squares-p.bytes*p.bytes/panes))
}
