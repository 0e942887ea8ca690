package capture

import (
	"os"
	"slices"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// soak returns how often to do what a long run, TMA_SOAK=1 (make soak), does longer.
func soak(short, long int) int {
	if os.Getenv("TMA_SOAK") != "" {
		return long
	}
	return short
}

// forEachTrace runs a test with the frames of each capture.
func forEachTrace(t *testing.T, test func(t *testing.T, frames [][]byte)) {
	testutil.ForEachCapture(t, func(t *testing.T, c testutil.Capture) { test(t, c.Read(t)) })
}

// Every packet of the captures goes through the program, in both directions; after each
// few, every counter is compared with the oracle's.
func TestTraces(t *testing.T) {
	forEachTrace(t, func(t *testing.T, frames [][]byte) {
		c := newTestCapture(t, smallMemory)
		for _, direction := range both {
			for batch := range slices.Chunk(frames, 64) {
				var sightings []*sighting
				for _, frame := range batch {
					frame = runnable(frame[:min(len(frame), largest)], false)
					sightings = append(sightings, &sighting{data: frame, direction: direction})
				}
				c.see(t, sightings...)
			}
		}
	})
}

// The captures have what the oracle is to be tried with: keys of both families and
// reasons, so that a comparison can't succeed because nothing was compared.
func TestTracesHaveVariety(t *testing.T) {
	seen, read := map[string]int{}, 0
	forEachTrace(t, func(t *testing.T, frames [][]byte) {
		read++
		for _, frame := range frames {
			v := judge(&sighting{data: frame, direction: flow.Ingress})
			switch {
			case v.reason != "":
				seen[v.reason]++
			case v.key.SourceAddr().Is4():
				seen["IPv4"]++
			default:
				seen["IPv6"]++
			}
		}
	})
	t.Log(seen)
	if read < len(testutil.Captures) {
		t.Skipf("%d of %d captures are there", read, len(testutil.Captures))
	}
	for _, what := range []string{"IPv4", "IPv6", "not_ip", "encapsulated", "malformed"} {
		if seen[what] == 0 {
			t.Errorf("no packet of the captures is %s", what)
		}
	}
}
