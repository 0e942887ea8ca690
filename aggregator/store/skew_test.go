package store

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// wrongClock is a host whose clock is ahead by so much at a time, in seconds since t0.
type wrongClock struct {
	*host
	ahead func(seconds float64) time.Duration
}

func (w *wrongClock) shows(at time.Time) time.Time { return at.Add(w.ahead(at.Sub(t0).Seconds())) }

// poll has the store read what the host has made since the last poll, half a second
// before now at most, over a network that takes its time.
func (w *wrongClock) poll(t *testing.T, r *rand.Rand, s *Store, now time.Time, sent *int) {
	t.Helper()
	there, back := time.Duration(r.IntN(30e6)), time.Duration(r.IntN(30e6))
	s.Exchanged(w.name, epoch.Exchange{
		Requested: now.Add(-back - there - time.Second), Received: w.shows(now.Add(-back)).Add(-time.Second),
		Sent: w.shows(now.Add(-back)), Answered: now,
	})
	for ; *sent < len(w.epochs) && !w.epochs[*sent].End.After(now); *sent++ {
		e := *w.epochs[*sent]
		length := e.End.Sub(e.Start)
		e.End = w.shows(e.End)
		e.Start = e.End.Add(-length) // as exporters do when their clock is set meanwhile
		if err := s.Append(w.name, &e); err != nil {
			t.Errorf("%s at %v: %v", w.name, now.Sub(t0), err)
		}
	}
}

// However wrong and unsteady a host's clock, a burst that two hosts saw is in its own
// second, once, and nothing is refused.
func TestClocksAreCorrected(t *testing.T) {
	constant := func(d time.Duration) func(float64) time.Duration {
		return func(float64) time.Duration { return d }
	}
	step := func(d time.Duration) func(float64) time.Duration {
		return func(seconds float64) time.Duration {
			if seconds < 20.3 {
				return 0
			}
			return d
		}
	}
	for _, test := range []struct {
		name  string
		ahead func(float64) time.Duration
		stops float64 // when the host can't be reached for four seconds
	}{
		{"right", constant(0), 0},
		{"a little ahead", constant(80 * time.Millisecond), 0},
		{"5 s ahead", constant(5 * time.Second), 0},
		{"20 s behind", constant(-20 * time.Second), 0},
		{"an hour ahead", constant(time.Hour), 0},
		{"an hour behind", constant(-time.Hour), 0},
		{"drifting", func(seconds float64) time.Duration { return time.Duration(-1e9 + seconds*200e3) }, 0},
		{"set an hour ahead", step(time.Hour), 0},
		{"set an hour back", step(-time.Hour), 0},
		{"set 3 s back", step(-3 * time.Second), 0},
		{"set while it can't be reached", step(time.Hour), 18.5},
		{"set back while it can't be reached", step(-time.Hour), 18.5},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 1))
			k, own := key("10.0.0.1", "10.0.0.2", 1), key("10.0.0.1", "192.0.2.1", 2)
			hosts := []*wrongClock{{newHost("a", "10.0.0.1/32"), test.ahead}, {newHost("b", "10.0.0.2/32"), constant(0)}}
			for second := range 40 {
				// Bytes that say in which second they were.
				hosts[0].sees(float64(second)+0.6, k, 1000+uint64(second))
				hosts[1].sees(float64(second)+0.6, k, 1000+uint64(second))
				hosts[0].sees(float64(second)+0.1, own, 7)
			}
			hosts[0].epoch(39.9)
			hosts[1].epoch(39.9)
			s, clock := newTestStore(nil)
			s.SetUp("a", true)
			s.SetUp("b", true)
			var sent [2]int
			for at := 0.25; at < 41; at += 0.25 {
				clock.at(at)
				for i, h := range hosts {
					if i == 1 || at < test.stops || at > test.stops+4 || test.stops == 0 {
						h.poll(t, r, s, clock.now, &sent[i])
					}
				}
			}
			for second := range 40 {
				from := t0.Add(time.Duration(second) * time.Second)
				w := s.Between(from, from.Add(time.Second))
				if want := 1000 + uint64(second) + 7; w.Counted.Bytes != want {
					t.Errorf("second %d has %d bytes, want %d", second, w.Counted.Bytes, want)
				}
			}
			skew := s.Skews()["a"]
			if wrong := (skew.Offset - test.ahead(40.5)).Abs(); wrong > skew.Error || skew.Error > 35*time.Millisecond {
				t.Errorf("the clock is %v ahead, give or take %v; it is %v", skew.Offset, skew.Error, test.ahead(40.5))
			}
		})
	}
}

// Corrections that come and go neither reorder epochs nor make them overlap.
func TestCorrectionKeepsOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	x := &exporter{}
	end, ahead := t0, time.Duration(0)
	var last time.Time
	for sequence := uint64(1); sequence < 2000; sequence++ {
		end = end.Add(epochLength)
		ahead += time.Duration(r.NormFloat64() * 100e6)
		x.skew.exchanged(epoch.Exchange{Requested: end, Received: end.Add(ahead), Sent: end.Add(ahead), Answered: end.Add(time.Millisecond)})
		e := &epoch.Epoch{Sequence: sequence, Start: end.Add(ahead - epochLength), End: end.Add(ahead)}
		x.correct(e)
		if e.Start.Before(last) || e.End.Before(e.Start) {
			t.Fatalf("epoch %d is from %v to %v behind one that ended at %v", sequence, e.Start.Sub(t0), e.End.Sub(t0), last.Sub(t0))
		}
		if wrong := e.End.Sub(end).Abs(); wrong > 2*leastSkew+time.Millisecond {
			t.Fatalf("epoch %d ends %v off", sequence, wrong)
		}
		last = e.End
	}
}

// An exporter that doesn't tell the time is taken at its word.
func TestUnknownClock(t *testing.T) {
	s, clock := newTestStore(nil)
	clock.at(10)
	s.Exchanged("a", epoch.Exchange{Requested: t0, Answered: t0})
	e := &epoch.Epoch{Sequence: 1, Start: t0, End: t0.Add(epochLength), Flows: []epoch.Flow{{Key: flow.Key{}, Count: epoch.Count{Bytes: 1}}}}
	if err := s.Append("a", e); err != nil || !e.Start.Equal(t0) || len(s.Skews()) != 0 {
		t.Errorf("%v, start %v, skews %v", err, e.Start, s.Skews())
	}
}
