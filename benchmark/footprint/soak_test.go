package main

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/benchmark/load"
)

const (
	soakEpoch  = 100 * time.Millisecond // the shortest that capture.epoch allows
	soakEpochs = 10_000
	soakRate   = 20_000 // packets a second
	// filledAfter is when everything has reached its bounds, the window of five minutes
	// last.
	filledAfter = 330 * time.Second
)

// Memory doesn't grow with time: over 10,000 epochs of nothing but new flows the last
// quarter takes no more than the one before, but for what the collector leaves.
func TestMemoryIsFlat(t *testing.T) {
	if os.Getenv("TMA_SOAK") == "" {
		t.Skip("takes 17 minutes; make soak runs it")
	}
	w := newWire(t)
	e, err := startExporter(w, buildExporter(t), []string{"--capture.epoch=" + soakEpoch.String()})
	must(t, err)
	u := &run{exporter: e, wire: w, from: &load.Source{}, rate: soakRate}
	var resident []float64 // MiB, every second
	for start, epochs := time.Now(), 0.0; epochs < soakEpochs; {
		must(t, u.send(time.Second))
		now, _, err := e.scrape()
		must(t, err)
		if epochs = now.sum("tma_capture_epochs_total"); time.Since(start) > 2*soakEpochs*soakEpoch {
			t.Fatalf("%g epochs in %v", epochs, time.Since(start))
		}
		memory, err := memoryOf(e.Pid())
		must(t, err)
		if time.Since(start) > filledAfter {
			resident = append(resident, float64(memory.Resident)/(1<<20))
		}
	}
	m := &measurement{}
	must(t, u.settle(m))
	last, _, err := e.scrape()
	must(t, err)
	must(t, e.stop())
	if m.Lost != 0 {
		t.Errorf("%d of %d packets lost", m.Lost, u.sent)
	}
	half := len(resident) / 2
	before, after := resident[half:half+half/2], resident[half+half/2:]
	t.Logf("%g epochs, %d packets: MiB in the quarters %.1f, %.1f, %.1f, %.1f; at most %.1f", last.sum("tma_capture_epochs_total"), u.sent,
		median(resident[:half/2]), median(resident[half/2:half]), median(before), median(after), slices.Max(resident))
	if grown := median(after) - median(before); grown > growth {
		t.Errorf("%.1f MiB more in the last quarter than in the one before", grown)
	}
	if highest := slices.Max(after); highest > slices.Max(before)+2*growth {
		t.Errorf("%.1f MiB at most in the last quarter, %.1f in the one before", highest, slices.Max(before))
	}
}

// growth is what the heap may differ by, in MiB, from one quarter to the next: a leak of
// a kilobyte an epoch is more than twice as much.
const growth = 1.0

func median(values []float64) float64 { return middle(slices.Sorted(slices.Values(values))) }
