package store

import (
	"errors"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
)

// randomHost sees many flows for some seconds.
func randomHost(r *rand.Rand, seconds, flows int) (h *host, bytes uint64) {
	h = newHost("a", "10.0.0.1/32")
	for second := range seconds {
		for range flows {
			k := key("10.0.0.1", "192.0.2.1", uint16(r.IntN(1<<16)))
			k.Destination = netip.AddrFrom4([4]byte{byte(r.IntN(4)), byte(r.IntN(4)), byte(r.IntN(256)), byte(r.IntN(256))}).As16()
			size := uint64(100 + r.IntN(1000))
			h.sees(float64(second)+0.2, k, size)
			bytes += size
		}
	}
	h.epoch(float64(seconds) - 0.1)
	return h, bytes
}

// Closing, coarsening and folding lose detail, never a byte; buckets stay in
// their bounds.
func TestAgeConservesBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	a, bytes := randomHost(r, 30, 100)
	s, clock := newTestStore(func(c *Configuration) { c.Retention, c.MaxFlows, c.MaxPrefixes = 15*time.Minute, 40, 20 })
	clock.at(30)
	deliver(t, r, s, a)
	for _, test := range []struct {
		seconds float64
		buckets int
	}{{30, 30}, {45, 30}, {200, 30}, {309.9, 30}, {311, 21}, {331, 3}, {900, 3}} {
		clock.at(test.seconds)
		w := s.Last(15 * time.Minute)
		if w.Counted.Bytes != bytes {
			t.Errorf("after %v s %d bytes are left of %d", test.seconds, w.Counted.Bytes, bytes)
		}
		for _, d := range flow.Dimensions {
			if got := w.Tree(d).Total().Bytes; got != bytes {
				t.Errorf("after %v s the %s tree has %d of %d", test.seconds, d, got, bytes)
			}
		}
		flows := w.other.Bytes
		for _, ranked := range w.TopFlows(1 << 20) {
			flows += ranked.Bytes
		}
		if flows != bytes {
			t.Errorf("after %v s flows and other add up to %d of %d", test.seconds, flows, bytes)
		}
		if len(s.buckets) != test.buckets {
			t.Errorf("after %v s there are %d buckets, want %d", test.seconds, len(s.buckets), test.buckets)
		}
		for _, b := range s.buckets {
			if !b.open && (b.content.packed.flows.n > 40 || b.content.packed.masses[flow.Destination].Len() > 20) {
				t.Errorf("after %v s a bucket has %d flows and %d prefixes", test.seconds, b.content.packed.flows.n, b.content.packed.masses[flow.Destination].Len())
			}
		}
	}
	clock.at(15*60 + 41)
	if w := s.Last(15 * time.Minute); w.Counted.Bytes != 0 || len(s.buckets) != 0 {
		t.Errorf("after the retention %d bytes are in %d buckets", w.Counted.Bytes, len(s.buckets))
	}
	if got := s.Totals().Counted.Bytes; got != bytes {
		t.Errorf("the counters say %d of %d", got, bytes)
	}
}

func TestOpenBucketsAreBounded(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	a, bytes := randomHost(r, 8, 100)
	s, clock := newTestStore(func(c *Configuration) { c.Memory = 20_000 })
	clock.at(8)
	deliver(t, r, s, a)
	open := 0
	for _, b := range s.buckets {
		for i := range b.epochs {
			open += b.epochs[i].bytes()
		}
	}
	if open > 5000 || open != s.waiting {
		t.Errorf("epochs of %d bytes are open, %d are known of", open, s.waiting)
	}
	if got := s.Last(time.Minute).Counted.Bytes; got != bytes {
		t.Errorf("%d bytes of %d", got, bytes)
	}
}

func TestWindows(t *testing.T) {
	a := newHost("a", "10.0.0.1/32")
	k := key("10.0.0.1", "192.0.2.1", 1)
	for second := range 20 {
		a.sees(float64(second)+0.2, k, 1<<second)
	}
	s, clock := newTestStore(nil)
	clock.at(19.9)
	deliver(t, rand.New(rand.NewPCG(1, 1)), s, a)
	at := func(seconds int) time.Time { return t0.Add(time.Duration(seconds) * time.Second) }
	for _, test := range []struct {
		name      string
		window    *Window
		first, to int // the seconds that are in it
	}{
		{"the current second is in it", s.Last(time.Second), 18, 20},
		{"ten seconds", s.Last(10 * time.Second), 9, 20},
		{"longer than there is", s.Last(time.Minute), 0, 20},
		{"from to", s.Between(at(3), at(7)), 3, 7},
		{"parts of seconds", s.Between(at(3).Add(time.Millisecond), at(7).Add(time.Millisecond)), 3, 8},
		{"nothing", s.Between(at(-9), at(-3)), 0, 0},
	} {
		want := uint64(1)<<test.to - uint64(1)<<test.first
		if test.window.Counted.Bytes != want {
			t.Errorf("%s: %b bytes, want %b", test.name, test.window.Counted.Bytes, want)
		}
	}
	for _, test := range []struct {
		now, from, to float64
	}{
		{now: 19.9, from: 9, to: 19.5},
		{now: 21.4, from: 11, to: 19.5},
		{now: 21.6, from: 11, to: 21.6}, // no epoch for too long
		{now: 40, from: 30, to: 40},
	} {
		clock.at(test.now)
		w := s.Last(10 * time.Second)
		if w.From.Sub(t0).Seconds() != test.from || w.To.Sub(t0).Seconds() != test.to || w.Seconds() != w.To.Sub(w.From).Seconds() {
			t.Errorf("at %v s ten seconds are %v to %v", test.now, w.From.Sub(t0), w.To.Sub(t0))
		}
	}
	if w := s.Between(at(3), at(100)); !w.From.Equal(at(3)) || !w.To.Equal(at(40)) {
		t.Errorf("until after now is %v to %v", w.From.Sub(t0), w.To.Sub(t0))
	}
}

func TestTimesOutOfRangeAreRefused(t *testing.T) {
	s, clock := newTestStore(func(c *Configuration) { c.Retention = 15 * time.Minute })
	clock.at(1000)
	for _, test := range []struct {
		name       string
		start, end float64
		refused    bool
	}{
		{"now", 999, 1000, false}, {"clock ahead", 1058, 1059, false}, {"old", 101, 102, false},
		{"too far ahead", 1061, 1062, true}, {"too old", 98, 99, true}, {"too long", 900, 999, true},
	} {
		at := func(seconds float64) time.Time { return t0.Add(time.Duration(seconds * float64(time.Second))) }
		err := s.Append("a", &epoch.Epoch{Sequence: 1, Start: at(test.start), End: at(test.end)})
		if errors.Is(err, ErrTime) != test.refused || (err == nil) == test.refused {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func sketchOf(r *rand.Rand, fingerprint uint64, n int) epoch.Sketch {
	s := &hll.Sketch{}
	for range n {
		s.Insert(r.Uint64())
	}
	return epoch.Sketch{Of: epoch.OfFlows, KeyFingerprint: fingerprint, HLL: s}
}

// The union over hosts and seconds counts what several saw once; sketches of
// another key are refused.
func TestDistinct(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	shared, own, alien := sketchOf(r, 7, 20_000), sketchOf(r, 7, 10_000), sketchOf(r, 8, 50_000)
	a, b := newHost("a", "10.0.0.1/32"), newHost("b", "10.0.0.2/32")
	a.epoch(1).Sketches = []epoch.Sketch{shared}
	a.epoch(4).Sketches = []epoch.Sketch{own}
	b.epoch(2).Sketches = []epoch.Sketch{shared}
	b.epoch(4).Sketches = []epoch.Sketch{alien}
	s, clock := newTestStore(nil)
	clock.at(5)
	deliver(t, r, s, a)
	for _, e := range b.epochs {
		err := s.Append("b", e)
		if refused := e == b.epoch(4); errors.Is(err, epoch.ErrSketches) != refused || (err == nil) == refused {
			t.Errorf("epoch %d: %v", e.Sequence, err)
		}
		if err != nil && !strings.HasSuffix(err.Error(), "those of flows are under key 0000000000000008, the fleet's is 0000000000000007") {
			t.Errorf("%q doesn't say what is wrong", err)
		}
	}
	if got := s.Between(t0.Add(2*time.Second), t0.Add(4*time.Second)).Distinct()[epoch.OfFlows]; math.Abs(got/20_000-1) > 3*hll.RelativeError {
		t.Errorf("%v flows in two seconds, want 20,000", got)
	}
	for _, age := range []float64{5, 30, 400} {
		clock.at(age)
		if got := s.Last(10 * time.Minute).Distinct()[epoch.OfFlows]; math.Abs(got/30_000-1) > 3*hll.RelativeError {
			t.Errorf("after %v s: %v flows, want 30,000", age, got)
		}
	}
	if got := s.RefusedSketches(); got["a"] != 0 || got["b"] != 1 {
		t.Errorf("refused %v, want 1 of b", got)
	}
}

func TestDistinctIsBounded(t *testing.T) {
	d := make(distinct)
	for i := range 100 {
		d.add(string(rune('a'+i)), &hll.Sketch{})
	}
	if len(d) != maxDistinct {
		t.Errorf("%d sketches", len(d))
	}
}

func TestTransitIsBounded(t *testing.T) {
	x := newTransit(5, 10, func(uint32, int64) bool { return true })
	for port := range uint16(100) {
		k := key("192.0.2.1", "192.0.2.2", port)
		x.observe(&k, 1, 0, 1000)
	}
	if len(x.owners) != 10 {
		t.Errorf("%d flows are remembered, want 10", len(x.owners))
	}
	if x.sweep(1001); len(x.owners) != 0 {
		t.Errorf("%d flows are left", len(x.owners))
	}
}

// A watcher that doesn't look gets one value, not one for each change.
func TestWatchConflates(t *testing.T) {
	s, _ := newTestStore(nil)
	changes, stop := s.Watch()
	for i := range 10 {
		s.SetUp("a", i%2 == 0)
	}
	<-changes
	select {
	case <-changes:
		t.Error("a second value for changes of before")
	default:
	}
	stop()
	s.SetUp("a", true)
	select {
	case <-changes:
		t.Error("a value after the end")
	default:
	}
}

func TestClaims(t *testing.T) {
	a := &exporter{id: 0, networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("0.0.0.0/0")}}
	b := &exporter{id: 1, networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/32"), netip.MustParsePrefix("fe80::5/128"), netip.MustParsePrefix("127.0.0.0/8")}}
	all, late := run{from: t0, to: t0.Add(time.Minute)}, run{from: t0.Add(10 * time.Second), to: t0.Add(time.Minute)}
	at := span{t0.Add(9 * time.Second), t0.Add(11 * time.Second)}
	for _, test := range []struct {
		address string
		a, b    []run
		x       *exporter
		want    ruling
	}{
		{"10.0.0.1", []run{all}, []run{all}, a, ruling{settled: true, mine: true}},
		{"10.0.0.1", []run{all}, []run{all}, b, ruling{settled: true}},
		{"10.0.0.5", []run{all}, []run{all}, a, ruling{settled: true}},
		{"10.0.0.5", []run{all}, []run{all}, b, ruling{settled: true, mine: true}},
		{"10.0.0.5", []run{all}, nil, a, ruling{settled: true, mine: true}}, // the next longer claim stands in
		{"10.0.0.5", []run{all}, []run{late}, a, ruling{settled: true, mine: true, owners: []*exporter{b}}},
		{"10.0.0.5", []run{all}, []run{late}, b, ruling{settled: true, mine: true}}, // what it saw it covers
		{"10.0.0.1", []run{late}, []run{all}, b, ruling{owners: []*exporter{a}}},
		{"10.0.0.1", nil, []run{all}, b, ruling{}},
		{"fe80::5", []run{all}, []run{all}, a, ruling{settled: true}},
		{"::1", []run{all}, []run{all}, a, ruling{}},
		{"127.0.0.1", []run{all}, []run{all}, b, ruling{}},
		{"192.0.2.1", []run{all}, []run{all}, a, ruling{}},
	} {
		a.runs, b.runs = slices.Clone(test.a), slices.Clone(test.b)
		for _, x := range []*exporter{a, b} {
			for i := range x.runs {
				x.runs[i].networks = x.networks
			}
		}
		c := newClaims([]*exporter{a, b})
		var got ruling
		c.rule(&got, netip.MustParseAddr(test.address), test.x, at)
		if got.settled != test.want.settled || got.mine != test.want.mine || !slices.Equal(got.owners, test.want.owners) {
			t.Errorf("%s, seen by %d while a covers %v and b %v: %+v, want %+v", test.address, test.x.id, test.a, test.b, got, test.want)
		}
	}
}

// With no memory for transit left, a second's flows still count once in it.
func TestTransitWithoutMemory(t *testing.T) {
	a, b := newHost("a", "10.0.0.1/32"), newHost("b", "10.0.0.2/32")
	k := key("192.0.2.1", "192.0.2.2", 1)
	a.sees(1, k, 100)
	b.sees(1, k, 100)
	s, clock := newTestStore(func(c *Configuration) { c.MaxTransitFlows = 0 })
	clock.at(2)
	deliver(t, rand.New(rand.NewPCG(1, 1)), s, b, a)
	want(t, s, map[flow.Key]uint64{k: 100})
}

// Nor does it take any for what comes late.
func TestLateTransitWithoutMemory(t *testing.T) {
	a, b := newHost("a", "10.0.0.1/32"), newHost("b", "10.0.0.2/32")
	k := key("192.0.2.1", "192.0.2.2", 1)
	a.epoch(1)
	b.sees(1, k, 100)
	s, clock := newTestStore(func(c *Configuration) { c.MaxTransitFlows = 0 })
	clock.at(2)
	deliver(t, rand.New(rand.NewPCG(1, 1)), s, a)
	clock.at(30) // its second is closed
	deliver(t, rand.New(rand.NewPCG(1, 1)), s, b)
	want(t, s, map[flow.Key]uint64{k: 100})
}

// Epochs end shortly after the full second. What a window counts, over the time
// from its beginning to its end, is the rate all the same.
func TestRateIsTrue(t *testing.T) {
	s, clock := newTestStore(nil)
	a := newHost("a", "10.0.0.1/32")
	a.offset = 20 * time.Millisecond
	for half := range 60 {
		a.sees(float64(half)/2+0.1, key("10.0.0.1", "10.0.0.2", 1), 1000)
	}
	clock.at(30.1)
	deliver(t, rand.New(rand.NewPCG(1, 1)), s, a)
	w := s.Last(10 * time.Second)
	if rate := float64(w.Counted.Bytes) / w.Seconds(); math.Abs(rate-2000) > 20 {
		t.Errorf("%d bytes in %.2f s are %.0f a second, sent 2000", w.Counted.Bytes, w.Seconds(), rate)
	}
}

// The counters have traffic as soon as it comes in, and never fall: not when a
// second closes, nor when traffic turns out to be another host's.
func TestTotalsAreCounters(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	a, b := newHost("a", "10.0.0.1/32"), newHost("b", "10.0.0.2/32")
	k := key("10.0.0.1", "10.0.0.2", 1)
	a.sees(1, k, 1000)
	b.sees(1, k, 900) // a part of it was lost on the way
	s, clock := newTestStore(nil)
	clock.at(2)
	deliver(t, r, s, b)
	if got := s.Totals().Counted.Bytes; got != 900 {
		t.Fatalf("%d bytes as soon as they came in, want 900", got)
	}
	deliver(t, r, s, a)
	for _, seconds := range []float64{2, 13, 60} {
		clock.at(seconds)
		if got := s.Totals().Counted.Bytes; got != 1000 {
			t.Fatalf("after %v s %d bytes, want 1000", seconds, got)
		}
	}
	s, clock = newTestStore(nil)
	clock.at(2)
	c := newHost("c", "192.0.2.1/32")
	c.sees(1, key("10.0.0.9", "10.0.0.1", 1), 500) // transit, until it is a's
	deliver(t, r, s, c)
	before := s.Totals().Counted.Bytes
	a = newHost("a", "10.0.0.1/32")
	a.sees(1, key("10.0.0.9", "10.0.0.1", 1), 400)
	deliver(t, r, s, a)
	if after := s.Totals().Counted.Bytes; before != 500 || after < before {
		t.Errorf("the counter went from %d to %d bytes", before, after)
	}
}
