package window

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/siphash"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
)

// sketchOf holds items of which no two calls share one, unless first is the same.
func sketchOf(first, n int) *hll.Sketch {
	var s hll.Sketch
	key := siphash.NewKey([16]byte{1})
	for i := range n {
		s.Insert(key.Sum(fmt.Append(nil, first+i)))
	}
	return &s
}

func estimate(t *testing.T, c *Cardinality, of string, window time.Duration) float64 {
	t.Helper()
	for _, e := range c.Estimates() {
		if e.Of == of && e.Window == window {
			return e.Value
		}
	}
	t.Fatalf("no estimate of %s in %s", of, window)
	return 0
}

func wantAbout(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 4*hll.RelativeError*want {
		t.Errorf("%s: got %.0f, want about %.0f", what, got, want)
	}
}

// Each epoch sees 100 items of its own; windows hold those of their time, give or
// take the pane that is being filled.
func TestCardinalityWindows(t *testing.T) {
	const each = 100
	c := NewCardinality()
	epochs := 0
	run := func(until int) {
		for ; epochs < until; epochs++ {
			e := testEpoch(uint64(epochs + 1))
			e.Sketches = []epoch.Sketch{
				{Of: epoch.OfFlows, HLL: sketchOf(epochs*each, each)},
				{Of: epoch.OfSources, HLL: sketchOf(0, each)}, // always the same
			}
			c.Add(e)
		}
	}
	run(10)
	for _, window := range Cardinalities {
		wantAbout(t, "young, "+window.String(), estimate(t, c, epoch.OfFlows, window), 10*each)
	}
	run(660) // past the longest window, at the end of a pane of each
	wantAbout(t, "10s", estimate(t, c, epoch.OfFlows, 10*time.Second), 20*each)
	wantAbout(t, "1m", estimate(t, c, epoch.OfFlows, time.Minute), 120*each)
	wantAbout(t, "5m", estimate(t, c, epoch.OfFlows, 5*time.Minute), 600*each)
	wantAbout(t, "sources", estimate(t, c, epoch.OfSources, 5*time.Minute), each)
}

// What was seen once counts for as long as the window less a pane, whenever in a pane
// it was seen, and not for longer than the window.
func TestCardinalityEdges(t *testing.T) {
	for _, window := range Cardinalities {
		pane := window / cardinalityPanes
		for _, phase := range []time.Duration{1, pane / 3, pane - 1, pane} {
			c, seen := NewCardinality(), start.Add(phase)
			at := func(age time.Duration, sketch *hll.Sketch) float64 {
				c.Add(&epoch.Epoch{End: seen.Add(age), Sketches: []epoch.Sketch{{Of: epoch.OfFlows, HLL: sketch}}})
				return estimate(t, c, epoch.OfFlows, window)
			}
			at(0, sketchOf(0, 1000))
			var gone time.Duration
			for age := pane / 4; age <= window+pane; age += pane / 4 {
				if at(age, &hll.Sketch{}) == 0 {
					gone = age
					break
				}
			}
			if gone <= window-pane || gone > window+pane/4 {
				t.Errorf("%s, %s into a pane: counts until %s later", window, phase, gone)
			}
		}
	}
}

// A pause empties the windows that it outlasts, and so does a clock that is set
// back: what is from the future isn't in the window.
func TestCardinalityForgets(t *testing.T) {
	c := NewCardinality()
	at := func(when time.Time, sketch *hll.Sketch) {
		c.Add(&epoch.Epoch{Start: when.Add(-epochLength), End: when,
			Sketches: []epoch.Sketch{{Of: epoch.OfFlows, HLL: sketch}}})
	}
	at(start, sketchOf(0, 5000))
	at(start.Add(30*time.Second), sketchOf(5000, 1000))
	wantAbout(t, "10s after a pause", estimate(t, c, epoch.OfFlows, 10*time.Second), 1000)
	wantAbout(t, "1m after a pause", estimate(t, c, epoch.OfFlows, time.Minute), 6000)
	at(start.Add(-time.Hour), sketchOf(6000, 1000))
	wantAbout(t, "1m, the clock was set back", estimate(t, c, epoch.OfFlows, time.Minute), 1000)
}

func BenchmarkCardinalityEstimates(b *testing.B) {
	c := NewCardinality()
	e := testEpoch(1)
	for _, of := range []string{epoch.OfFlows, epoch.OfSources, epoch.OfDestinations, epoch.OfDestinationPorts} {
		e.Sketches = append(e.Sketches, epoch.Sketch{Of: of, HLL: sketchOf(0, 1000)})
	}
	for range 600 {
		c.Add(e)
		e.End = e.End.Add(epochLength)
	}
	b.Run("add", func(b *testing.B) {
		for b.Loop() {
			c.Add(e)
		}
	})
	b.Run("estimates", func(b *testing.B) {
		for b.Loop() {
			c.Estimates()
		}
	})
}
