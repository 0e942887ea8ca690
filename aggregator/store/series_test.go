package store

import (
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// ramp delivers two flows a second, one in each direction, for so many seconds, and
// returns the bytes of each by second.
func ramp(t *testing.T, s *Store, c *clock, seconds int) (ingress, egress map[int64]uint64) {
	t.Helper()
	ingress, egress = make(map[int64]uint64), make(map[int64]uint64)
	s.SetUp("a", true)
	for i := range seconds {
		c.at(float64(i + 1))
		e := &epoch.Epoch{Sequence: uint64(i + 1), Start: c.now.Add(-time.Second), End: c.now}
		in, out := uint64(100*(i+1)), uint64(100*(i%17+1))
		e.Flows = []epoch.Flow{
			{Key: key("192.0.2.1", "10.0.0.1", 1), Direction: flow.Ingress, Count: epoch.Count{Packets: 1, Bytes: in}},
			{Key: key("10.0.0.1", "192.0.2.1", 1), Direction: flow.Egress, Count: epoch.Count{Packets: 1, Bytes: out}},
		}
		if err := s.Append("a", e); err != nil {
			t.Fatal(err)
		}
		ingress[e.Start.Unix()], egress[e.Start.Unix()] = in, out
	}
	return ingress, egress
}

// What is summed up in advance puts nothing into another step, and keeps directions
// and exporters.
func TestSeriesOfLongWindows(t *testing.T) {
	s, clock := newTestStore(nil)
	ingress, egress := ramp(t, s, clock, 3000)
	in, out := flow.Ingress, flow.Egress
	for _, step := range []time.Duration{10 * time.Second, 70 * time.Second, 90 * time.Second, time.Minute, 10 * time.Minute, 20 * time.Minute} {
		all := s.LastInSteps(2700*time.Second, step)
		if step >= 10*time.Minute && len(all.contents) > 100 {
			t.Errorf("%v: nothing was summed up in advance: %d contents", step, len(all.contents))
		}
		for of, want := range map[*flow.Direction]map[int64]uint64{&in: ingress, &out: egress} {
			w := all.Filter(Filter{Direction: of, Exporters: []string{"a"}})
			checkSeries(t, w, step, want)
		}
	}
}

// checkSeries fails unless each step of a window has the bytes of its seconds.
func checkSeries(t *testing.T, w *Window, step time.Duration, bySecond map[int64]uint64) {
	t.Helper()
	want := make(map[time.Time]uint64)
	for second, bytes := range bySecond {
		if at := time.Unix(second, 0).UTC(); !at.Before(w.From) {
			want[at.Truncate(step)] += bytes
		}
	}
	series := w.Series(flow.Source, []hhh.Prefix{{}}, step)
	for i, at := range series.Times {
		if got := series.Total[i].Bytes; got != want[at] || series.Prefixes[0].Bytes[i] != got {
			t.Errorf("steps of %v: %d bytes at %v, want %d", step, got, at, want[at])
		}
	}
	if w.Unattributed.Bytes != 0 {
		t.Errorf("%d bytes are unattributed", w.Unattributed.Bytes)
	}
}
