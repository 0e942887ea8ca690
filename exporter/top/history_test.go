package top

import (
	"math"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

func simpleEpoch(sequence uint64) *epoch.Epoch { return testEpoch(sequence, steady[0]) }

func TestWindows(t *testing.T) {
	for _, test := range []struct {
		epochs int
		want   [len(windows)]time.Duration
	}{
		{0, [...]time.Duration{0, 0, 0}},
		{1, [...]time.Duration{epochLength, epochLength, epochLength}},
		{10, [...]time.Duration{2 * time.Second, 5 * time.Second, 5 * time.Second}},
		{300, [...]time.Duration{2 * time.Second, 10 * time.Second, 40 * time.Second}},
	} {
		h := filled(test.epochs, simpleEpoch)
		if got := h.covered(); got != test.want {
			t.Errorf("%d epochs cover %v, want %v", test.epochs, got, test.want)
		}
		all := h.totals().all
		for i, covered := range test.want {
			if want := uint64(covered/epochLength) * 500_000; all[i].Bytes != want {
				t.Errorf("%d epochs: %d bytes in %v, want %d", test.epochs, all[i].Bytes, windows[i], want)
			}
		}
	}
	if n := len(filled(300, simpleEpoch).epochs); n != 80 {
		t.Errorf("%d epochs are kept for 40 s, want 80", n)
	}
}

// Epochs that aren't quite as long as they should be don't make windows jump.
func TestWindowsOfUnevenEpochs(t *testing.T) {
	for _, length := range []time.Duration{499 * time.Millisecond, 501 * time.Millisecond} {
		h := filled(100, func(sequence uint64) *epoch.Epoch {
			e := simpleEpoch(sequence)
			e.Start, e.End = start.Add(time.Duration(sequence-1)*length), start.Add(time.Duration(sequence)*length)
			return e
		})
		if _, covered := h.reach(2 * time.Second); covered != 4*length {
			t.Errorf("epochs of %v: %v for 2s", length, covered)
		}
	}
}

// Windows never reach over a gap in what is known, nor over a clock that was set.
func TestGap(t *testing.T) {
	for shift, kept := range map[time.Duration]int{
		time.Second: 11, longestGap + time.Second: 1, -time.Second: 11, -time.Hour: 1, time.Hour: 1,
	} {
		h := filled(10, simpleEpoch)
		next := simpleEpoch(11)
		next.Start, next.End = next.Start.Add(shift), next.End.Add(shift)
		h.add(next)
		if len(h.epochs) != kept {
			t.Errorf("a gap of %v leaves %d epochs, want %d", shift, len(h.epochs), kept)
		}
	}
}

// An exporter can't make a history grow without bound.
func TestHistoryIsBounded(t *testing.T) {
	empty := filled(3*maxKept, func(sequence uint64) *epoch.Epoch {
		return &epoch.Epoch{Sequence: sequence, Start: start, End: start} // as long as nothing
	})
	if n := len(empty.epochs); n != maxKept {
		t.Errorf("%d epochs without length are kept, want %d", n, maxKept)
	}
	large := filled(40, func(sequence uint64) *epoch.Epoch {
		e := testEpoch(sequence)
		e.Ladders = []epoch.Ladder{{Entries: make([]epoch.Prefix, 100_000)}}
		return e
	})
	if large.size > maxKeptSize || len(large.epochs) != maxKeptSize/sizeOf(large.newest()) {
		t.Errorf("%d epochs with %d bytes are kept, at most %d allowed", len(large.epochs), large.size, maxKeptSize)
	}
	huge := testEpoch(41)
	huge.Ladders = []epoch.Ladder{{Entries: make([]epoch.Prefix, 2_000_000)}}
	if large.add(huge); len(large.epochs) != 1 {
		t.Errorf("beside an epoch beyond the bound %d are kept", len(large.epochs)-1)
	}
}

func TestEstimates(t *testing.T) {
	h := filled(20, mixedEpoch)
	for i, got := range h.estimates(10 * time.Second) {
		if want := float64(100 * (i + 1)); math.Abs(got-want) > 0.03*want {
			t.Errorf("%s: %.1f, want %.0f", distinct[i], got, want)
		}
	}
	// Under another key nothing of before counts.
	next := mixedEpoch(21)
	for i := range next.Sketches {
		next.Sketches[i].KeyFingerprint = 8
		next.Sketches[i].HLL.Reset()
		next.Sketches[i].HLL.Insert(1 << 63)
	}
	h.add(next)
	for i, got := range h.estimates(10 * time.Second) {
		if math.Round(got) != 1 {
			t.Errorf("%s under a new key: %.1f, want 1", distinct[i], got)
		}
	}
}

func TestUnaccounted(t *testing.T) {
	h := filled(10, mixedEpoch)
	if lost := h.totals().unaccounted(); lost != (sums{}) {
		t.Errorf("unaccounted: %v", lost)
	}
	h.newest().Devices[0].Total.Bytes += 7
	if lost := h.totals().unaccounted(); lost[0].Bytes != 7 || lost[2].Bytes != 7 {
		t.Errorf("unaccounted: %v, want 7 bytes", lost)
	}
	if h.newest().Folded(flow.Source) == (epoch.Count{}) {
		t.Error("nothing is folded")
	}
}
