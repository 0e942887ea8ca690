package window

import (
	"math"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// What a key's usual traffic is.
const (
	// memoryWindows is the time constant, in windows, by which the past is forgotten.
	memoryWindows = 10
	// changed is the ratio of a window's bytes to the usual ones, or the inverse, at
	// which the past doesn't count any more: something began or ended.
	changed = 4
	// changedPackets is how many packets there must be, or must have been expected,
	// for such a ratio to be no chance.
	changedPackets = 50
	// deviations is how many standard deviations are left to chance.
	deviations = 3
)

// tally is what a ranking knows of a key.
type tally struct {
	epoch.Count                  // over the window
	packets, bytes float64       // of the past, the longer ago the less
	seconds        float64       // of the past, likewise
	silent         time.Duration // since the last packet
	pane           bool          // had packets in the last one
	entry          bool
}

// add counts a pane.
func (t *tally) add(c epoch.Count) {
	t.Count.Add(c)
	t.packets += float64(c.Packets)
	t.bytes += float64(c.Bytes)
	t.pane = true
}

// idle says whether there was no traffic in the window.
func (t *tally) idle() bool { return t.Count == epoch.Count{} }

// age forgets some of the past at the end of a pane.
func (t *tally) age(span, window time.Duration) {
	t.silent += span
	if t.pane {
		t.silent, t.pane = 0, false
	}
	t.seconds += span.Seconds()
	if t.seconds > window.Seconds() && t.hasChanged(window) {
		t.packets, t.bytes, t.seconds = float64(t.Packets), float64(t.Bytes), window.Seconds()
	}
	kept := math.Exp(-span.Seconds() / (memoryWindows * window.Seconds()))
	t.packets *= kept
	t.bytes *= kept
	t.seconds *= kept
}

// hasChanged says whether the window's traffic can't be the usual.
func (t *tally) hasChanged(window time.Duration) bool {
	windows := t.seconds / window.Seconds()
	usual, now := t.bytes/windows, float64(t.Bytes)
	if now < changed*usual && usual < changed*now {
		return false
	}
	return max(t.packets/windows, float64(t.Packets)) >= changedPackets
}

// usual returns the usual bytes of a window. A key that is younger than a window
// counts as one that did nothing before.
func (t tally) usual(window time.Duration) uint64 { return t.rate(window, t.packets) }

// atLeast returns what the usual bytes are at least, unless chance did a lot: packets
// that come independently of each other vary by the root of their number.
func (t tally) atLeast(window time.Duration) uint64 {
	return t.rate(window, max(0, t.packets-deviations*math.Sqrt(t.packets)))
}

// atMost is the same on the other side.
func (t tally) atMost(window time.Duration) uint64 {
	return t.rate(window, t.packets+deviations*math.Sqrt(t.packets))
}

// rate returns the bytes of a window if so many packets had come.
func (t *tally) rate(window time.Duration, packets float64) uint64 {
	if t.packets == 0 {
		return 0
	}
	share := packets / t.packets * window.Seconds() / max(t.seconds, window.Seconds())
	return uint64(math.Ceil(t.bytes * share))
}
