package store

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// Random fleets: monitored hosts, others, and routers that see what passes. In
// whatever order epochs come in, and with whatever skew of epochs, every flow
// counts once, to the byte; before its seconds are closed and after.
func TestEveryFlowCountsOnce(t *testing.T) {
	for i := range 40 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(i), 3))
			hosts := []*host{newHost("router-1", "10.9.0.1/32"), newHost("router-2", "10.9.0.2/32", "fe80::1/128")}
			for n := range 1 + r.IntN(3) {
				hosts = append(hosts, newHost(fmt.Sprint("host-", n), fmt.Sprintf("10.0.0.%d/32", n), fmt.Sprintf("10.1.%d.0/24", n), "127.0.0.0/8"))
			}
			for _, h := range hosts {
				h.offset = -time.Duration(r.IntN(int(epochLength)))
			}
			truth := make(map[flow.Key]uint64)
			for range 300 {
				simulate(r, hosts, truth)
			}
			for _, h := range hosts {
				h.epoch(19.9)
			}
			s, clock := newTestStore(nil)
			clock.at(20)
			deliver(t, r, s, hosts...)
			want(t, s, truth)
			clock.at(60)
			want(t, s, truth)
			if got := s.Totals().Counted; got != s.Last(300e9).Counted {
				t.Errorf("the counters say %v", got)
			}
		})
	}
}

// simulate sends one packet train past the hosts that see it.
func simulate(r *rand.Rand, hosts []*host, truth map[flow.Key]uint64) {
	address := func() (string, *host) {
		n := r.IntN(5)
		switch {
		case n < len(hosts)-2 && r.IntN(2) == 0:
			return fmt.Sprintf("10.0.0.%d", n), hosts[n+2]
		case n < len(hosts)-2:
			return fmt.Sprintf("10.1.%d.%d", n, r.IntN(3)), hosts[n+2]
		}
		return fmt.Sprintf("192.0.2.%d", n), nil
	}
	source, from := address()
	destination, to := address()
	k := key(source, destination, uint16(r.IntN(3)))
	seen := map[*host]bool{from: true, to: true}
	for _, router := range hosts[:2] {
		// Routing doesn't change, so a flow's routers are always the same ones.
		if (int(k.Source[15])+int(k.Destination[15])+int(router.name[7]))%3 > 0 {
			seen[router] = true
		}
	}
	delete(seen, nil)
	if len(seen) == 0 {
		return // nobody is there to see it
	}
	bytes := uint64(100 + r.IntN(1000))
	truth[k] += bytes
	at := 1 + r.Float64()*17
	for h := range seen {
		h.sees(at, k, bytes)
	}
}

// The rules of resolve.go, one by one.
func TestWhoCounts(t *testing.T) {
	between := key("10.0.0.1", "10.0.0.2", 1)
	inbound := key("192.0.2.1", "10.0.0.2", 1)
	passing := key("192.0.2.1", "192.0.2.2", 1)
	for _, test := range []struct {
		name string
		run  func(a, b *host)
		want map[flow.Key]uint64
	}{
		{"the source's host, not the destination's", func(a, b *host) {
			a.sees(1, between, 1000)
			b.sees(1, between, 900) // lost on the way
		}, map[flow.Key]uint64{between: 1000}},
		{"the source's host even if it has folded the flow", func(a, b *host) {
			b.sees(1, between, 1000)
		}, nil},
		{"the destination's host if the source isn't monitored", func(a, b *host) {
			a.sees(1, inbound, 1000) // passing through a
			b.sees(1, inbound, 900)
		}, map[flow.Key]uint64{inbound: 900}},
		{"one of those that see it in transit", func(a, b *host) {
			a.sees(1, passing, 1000)
			b.sees(1, passing, 1000)
		}, map[flow.Key]uint64{passing: 1000}},
		{"in transit the same one, though seconds differ", func(a, b *host) {
			a.sees(1, passing, 1000)
			b.sees(2.1, passing, 1000)
			a.sees(3, passing, 500)
			b.sees(4.1, passing, 500)
		}, map[flow.Key]uint64{passing: 1500}},
		{"another one when the first doesn't see it any more", func(a, b *host) {
			a.sees(1, passing, 1000)
			b.sees(1, passing, 1000)
			b.sees(2, passing, 20) // may be what a saw last
			b.sees(3, passing, 300)
			b.sees(9, passing, 300)
		}, map[flow.Key]uint64{passing: 1600}},
		{"loopback, on every host", func(a, b *host) {
			a.sees(1, key("127.0.0.1", "127.0.0.1", 1), 100)
			b.sees(1, key("127.0.0.1", "127.0.0.1", 1), 200)
		}, map[flow.Key]uint64{key("127.0.0.1", "127.0.0.1", 1): 300}},
		{"a container network that both hosts have, on each", func(a, b *host) {
			a.sees(1, key("172.17.0.2", "192.0.2.1", 1), 100)
			b.sees(1, key("172.17.0.2", "192.0.2.1", 1), 200)
		}, map[flow.Key]uint64{key("172.17.0.2", "192.0.2.1", 1): 300}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for i := range 6 {
				a := newHost("a", "10.0.0.1/32", "172.17.0.0/16")
				b := newHost("b", "10.0.0.2/32", "172.17.0.0/16")
				test.run(a, b)
				a.epoch(11)
				b.epoch(11)
				s, clock := newTestStore(nil)
				clock.at(12)
				r := rand.New(rand.NewPCG(uint64(i), 1))
				if test.name == "another one when the first doesn't see it any more" ||
					test.name == "in transit the same one, though seconds differ" {
					deliver(t, r, s, a) // a is first and so has it
					deliver(t, r, s, b)
				} else {
					deliver(t, r, s, a, b)
				}
				want(t, s, test.want)
				clock.at(100)
				want(t, s, test.want)
			}
		})
	}
}

// While the source's host is down its flows count at the destination's; what it
// sent while it was up counts at the source's.
func TestDestinationStandsInForDeadSource(t *testing.T) {
	k := key("10.0.0.1", "10.0.0.2", 1)
	a, b := newHost("a", "10.0.0.1/32"), newHost("b", "10.0.0.2/32")
	for second := range 8 {
		if second < 4 {
			a.sees(float64(second)+0.1, k, 1000)
		}
		b.sees(float64(second)+0.1, k, 10)
	}
	a.epoch(3.9)
	b.epoch(7.9)
	s, clock := newTestStore(nil)
	clock.at(8)
	deliver(t, rand.New(rand.NewPCG(1, 1)), s, a, b)
	want(t, s, map[flow.Key]uint64{k: 4000}) // a's epochs may still come
	s.SetUp("a", false)
	want(t, s, map[flow.Key]uint64{k: 4040})

	// It comes back, its epochs still in its memory: nothing counts twice.
	for second := 4; second < 8; second++ {
		a.sees(float64(second)+0.1, k, 1000)
	}
	a.epochs = a.epochs[8:]
	deliver(t, rand.New(rand.NewPCG(1, 1)), s, a)
	want(t, s, map[flow.Key]uint64{k: 8000})
}

// After the seconds are closed, the host that stood in keeps what it counted.
func TestLateEpochsDontCountTwice(t *testing.T) {
	shared, own := key("10.0.0.1", "10.0.0.2", 1), key("10.0.0.1", "192.0.2.1", 2)
	a, b := newHost("a", "10.0.0.1/32"), newHost("b", "10.0.0.2/32")
	a.sees(1, shared, 1000)
	a.sees(1, own, 500)
	a.folds(1, epoch.Own, "10.0.0.0/24", "192.0.2.0/24", 70)
	b.sees(1, shared, 900)
	a.epoch(3)
	b.epoch(3)
	s, clock := newTestStore(nil)
	r := rand.New(rand.NewPCG(1, 1))
	clock.at(3)
	deliver(t, r, s, b)
	clock.at(40)
	want(t, s, map[flow.Key]uint64{shared: 900})
	before := s.Totals().Counted.Bytes
	deliver(t, r, s, a)
	want(t, s, map[flow.Key]uint64{shared: 900, own: 500})
	if got := s.Totals().Counted.Bytes - before; got != 500 {
		t.Errorf("the counters rose by %d, want 500", got)
	}
	if w := s.Last(60e9); w.Uncertain.Bytes != 70 {
		t.Errorf("%d bytes are uncertain, want 70", w.Uncertain.Bytes)
	}
}

// A lone host that was cut off for a while loses nothing.
func TestLateEpochsOfOneHostCountAll(t *testing.T) {
	k := key("10.0.0.1", "192.0.2.1", 2)
	a := newHost("a", "10.0.0.1/32")
	a.sees(1.1, k, 500)
	a.sees(1.6, k, 300)
	a.folds(1.6, epoch.Own, "10.0.0.0/24", "192.0.2.0/24", 70)
	s, clock := newTestStore(nil)
	s.SetUp("a", true)
	clock.at(2)
	for _, e := range a.epochs[:3] {
		if err := s.Append("a", e); err != nil {
			t.Fatal(err)
		}
	}
	clock.at(30)
	if got := s.Totals().Counted.Bytes; got != 500 {
		t.Fatalf("%d bytes, want 500", got)
	}
	if err := s.Append("a", a.epochs[3]); err != nil {
		t.Fatal(err)
	}
	if w := s.Last(60e9); w.Counted.Bytes != 870 || w.Uncertain.Bytes != 0 {
		t.Errorf("%v counted, %v uncertain", w.Counted, w.Uncertain)
	}
	if got := s.Totals().Counted.Bytes; got != 870 {
		t.Errorf("the counters say %d", got)
	}
}

// Missed epochs are a time that a host doesn't cover.
func TestGapIsNotCovered(t *testing.T) {
	k := key("10.0.0.1", "10.0.0.2", 1)
	a, b := newHost("a", "10.0.0.1/32"), newHost("b", "10.0.0.2/32")
	for second := range 6 {
		a.sees(float64(second)+0.1, k, 1000)
		b.sees(float64(second)+0.1, k, 10)
	}
	a.epoch(5.9)
	b.epoch(5.9)
	a.epochs = append(a.epochs[:4:4], a.epochs[8:]...) // seconds 2 and 3 are gone
	s, clock := newTestStore(nil)
	clock.at(6)
	deliver(t, rand.New(rand.NewPCG(1, 1)), s, a, b)
	want(t, s, map[flow.Key]uint64{k: 4020})
}

// Own folded mass counts; the fleet's classes count nowhere where it isn't known
// who owns them, but the truth is inside all intervals.
func TestFoldedClasses(t *testing.T) {
	a, b := newHost("a", "10.0.0.1/32"), newHost("b", "10.0.0.2/32")
	b.epoch(2)
	k := key("10.0.0.1", "192.0.2.1", 1)
	a.sees(1, k, 1000)
	a.epoch(1).Flows[0].Error = 200
	a.folds(1, epoch.Own, "10.0.0.0/24", "192.0.2.0/24", 300)
	a.folds(1, epoch.FleetSource, "10.0.0.0/8", "0.0.0.0/0", 40)
	a.folds(1, epoch.FleetDestination, "10.0.0.0/8", "0.0.0.0/0", 2)
	a.epoch(1).Devices = []epoch.Device{{Remainder: epoch.Count{Bytes: 5000}}}
	s, clock := newTestStore(nil)
	clock.at(2)
	deliver(t, rand.New(rand.NewPCG(1, 1)), s, a, b)
	w := s.Last(10e9)
	if w.Counted.Bytes != 1300 || w.Uncertain.Bytes != 42 || w.Remainder.Bytes != 5000 {
		t.Errorf("counted %d, uncertain %d, remainder %d", w.Counted.Bytes, w.Uncertain.Bytes, w.Remainder.Bytes)
	}
	if top := w.TopFlows(1)[0]; top.Lower != 1000 || top.Upper != 1000+200+5000 {
		t.Errorf("the flow is in [%d, %d]", top.Lower, top.Upper)
	}
	if n := w.Tree(flow.Source).TopAddresses(1)[0]; n.Lower != 1000 || n.Upper != 1000+300+42+5000 {
		t.Errorf("the source is in [%d, %d]", n.Lower, n.Upper)
	}
	if root := w.Tree(flow.Source).Root(); root.Lower != 1300 || root.Upper != 1300+42+5000 {
		t.Errorf("the root is in [%d, %d]", root.Lower, root.Upper)
	}
}

// What the fleet's classes hold counts at the host whose it is, and at one that
// stands in for it if that is certain.
func TestWhoCountsFleetClasses(t *testing.T) {
	type counts struct{ counted, uncertain uint64 }
	for name, test := range map[string]struct {
		class               epoch.Class
		source, destination string
		others              []string // networks of another host
		want                counts
		destinations        string // where they count
	}{
		"the source's host is up":                    {epoch.FleetSource, "10.0.0.2/32", "10.0.0.1/32", []string{"10.0.0.2/32"}, counts{}, ""},
		"the source's network's host is up":          {epoch.FleetSource, "10.2.3.0/24", "10.0.0.1/32", []string{"10.2.0.0/16"}, counts{}, ""},
		"nobody has the source":                      {epoch.FleetSource, "10.0.0.3/32", "10.0.0.1/32", []string{"10.0.0.2/32"}, counts{counted: 100}, "10.0.0.1/32"},
		"a part of the sources is another's":         {epoch.FleetSource, "10.0.0.0/24", "10.0.0.1/32", []string{"10.0.0.2/32"}, counts{uncertain: 100}, ""},
		"nobody has the source, and it goes further": {epoch.FleetSource, "10.0.0.3/32", "10.0.0.4/32", []string{"10.0.0.2/32"}, counts{uncertain: 100}, ""},
		"nobody else is there":                       {epoch.FleetSource, "10.0.0.3/32", "10.0.0.4/32", nil, counts{counted: 100}, "10.0.0.4/32"},
		"the destination's host is up":               {epoch.FleetDestination, "192.0.2.1/32", "10.0.0.2/32", []string{"10.0.0.2/32"}, counts{}, ""},
		"nobody has the destination":                 {epoch.FleetDestination, "192.0.2.1/32", "10.0.0.4/32", []string{"10.0.0.2/32"}, counts{uncertain: 100}, ""},
		"nobody else is there to have it":            {epoch.FleetDestination, "192.0.2.1/32", "10.0.0.4/32", nil, counts{counted: 100}, "10.0.0.4/32"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newHost("a", "10.0.0.1/32")
			a.folds(1, test.class, test.source, test.destination, 100)
			hosts := []*host{a}
			if test.others != nil {
				hosts = append(hosts, newHost("b", test.others...))
				hosts[1].epoch(2)
			}
			s, clock := newTestStore(nil)
			clock.at(3)
			deliver(t, rand.New(rand.NewPCG(1, 1)), s, hosts...)
			w := s.Last(10e9)
			if got := (counts{w.Counted.Bytes, w.Uncertain.Bytes}); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
			if test.destinations != "" && w.Tree(flow.Destination).TopAddresses(1)[0].String() != test.destinations {
				t.Errorf("it counts under %v", w.Tree(flow.Destination).TopAddresses(1)[0].Prefix)
			}
		})
	}
}

// If a part of a class counts, its bytes are under one prefix of the other dimension
// that has them all.
func TestPartOfFleetClass(t *testing.T) {
	a, b := newHost("a", "10.0.1.0/24"), newHost("b", "10.0.0.2/32")
	a.folds(1, epoch.FleetSource, "10.0.0.2/32", "10.0.1.7/32", 100)
	a.folds(1, epoch.FleetSource, "10.0.0.3/32", "10.0.1.9/32", 10)
	b.epoch(2)
	s, clock := newTestStore(func(c *Configuration) { c.Levels = hhh.Steps(1, 4) })
	clock.at(3)
	deliver(t, rand.New(rand.NewPCG(1, 1)), s, a, b)
	w := s.Last(10e9)
	view := w.Tree(flow.Destination).View(0)
	for view.SelfBytes == 0 {
		view = view.Children[0]
	}
	if w.Counted.Bytes != 10 || w.Uncertain.Bytes != 0 || view.String() != "10.0.1.0/28" || view.SelfBytes != 10 {
		t.Errorf("counted %d, uncertain %d, %d under %v", w.Counted.Bytes, w.Uncertain.Bytes, view.SelfBytes, view.Prefix)
	}
}

// What an exporter says may be counted twice, or nowhere, widens the intervals of
// what it may belong to, in open buckets and in those that are merged.
func TestDoubtsWidenIntervals(t *testing.T) {
	a := newHost("a", "10.0.0.1/32")
	first, second := key("10.0.0.1", "192.0.2.1", 1), key("10.0.0.1", "192.0.2.2", 2)
	for i := range 2 {
		at := 1 + float64(i)/2
		a.sees(at, first, 1000)
		a.sees(at, second, 500)
		a.folds(at, epoch.Own, "10.0.0.0/24", "192.0.2.0/24", 300)
		e := a.epoch(at)
		e.Flows[0].Doubtful, e.Flows[1].Error = 30, 7
		e.Doubtful, e.Hidden = epoch.Count{Packets: 1, Bytes: 100}, epoch.Count{Packets: 1, Bytes: 60}
	}
	a.epochs[3].Flows = a.epochs[3].Flows[:1] // second is listed in one epoch only
	s, clock := newTestStore(nil)
	clock.at(2)
	deliver(t, rand.New(rand.NewPCG(1, 1)), s, a)
	for _, seconds := range []float64{2, 400} {
		clock.at(seconds)
		w := s.Last(15 * time.Minute)
		top := w.TopFlows(2)
		if got := top[0]; got.Lower != 2000-60 || got.Upper != 2000 {
			t.Errorf("after %v s the first flow is in [%d, %d]", seconds, got.Lower, got.Upper)
		}
		if got := top[1]; got.Lower != 500 || got.Upper != 500+7+300+60 {
			t.Errorf("after %v s the second flow is in [%d, %d]", seconds, got.Lower, got.Upper)
		}
		if got := w.TopServices(1)[0]; got.Lower != 2000-60 || got.Upper != 2000+600+120 {
			t.Errorf("after %v s the service is in [%d, %d]", seconds, got.Lower, got.Upper)
		}
		tree := w.Tree(flow.Destination)
		if root := tree.Root(); root.Lower != 3100-60-200 || root.Upper != 3100+120 {
			t.Errorf("after %v s the root is in [%d, %d]", seconds, root.Lower, root.Upper)
		}
		if got := tree.TopAddresses(1)[0]; got.Lower != 2000-260 || got.Upper != 2000+600+120 {
			t.Errorf("after %v s the first destination is in [%d, %d]", seconds, got.Lower, got.Upper)
		}
	}
}
