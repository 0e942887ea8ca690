package store

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/networks"
	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

// sight is traffic of a flow as the exporter that counts it knows it.
type sight struct {
	flow.Key
	exporter  string
	direction flow.Direction
	bytes     uint64
}

// sights is the whole truth of a simulated fleet, and what can be asked about it.
type sights struct {
	all   []sight
	table *networks.Table
}

// simulateFleet fills a store with flows of three hosts, of which some are partly or
// wholly folded, and returns the truth.
func simulateFleet(t *testing.T, r *rand.Rand, s *Store, folded bool) sights {
	t.Helper()
	truth := sights{table: networks.NewTable([]networks.Network{
		{Prefix: prefixOf("10.0.0.0/24"), Name: "red"}, {Prefix: prefixOf("192.0.0.0/10"), Name: "blue"},
		{Prefix: prefixOf("192.0.2.0/25"), Name: "red"}, {Prefix: prefixOf("2001:db8::/32"), Name: "blue"},
	})}
	for host := range 3 {
		name := fmt.Sprint("x", host)
		s.SetUp(name, true)
		for second := range 30 {
			e := &epoch.Epoch{
				Sequence: uint64(second + 1), Start: t0.Add(time.Duration(second) * time.Second), End: t0.Add(time.Duration(second+1) * time.Second),
				LocalNetworks: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.0.%d.0/24", host)), netip.MustParsePrefix(fmt.Sprintf("2001:db8:%d::/48", host))},
			}
			for range r.IntN(12) {
				truth.all = append(truth.all, see(r, e, name, host, folded))
			}
			if err := s.Append(name, e); err != nil {
				t.Fatal(err)
			}
		}
	}
	return truth
}

func prefixOf(text string) yamlconf.Prefix {
	return yamlconf.Prefix{Prefix: netip.MustParsePrefix(text)}
}

// see adds one sight to an epoch, under its flow or folded.
func see(r *rand.Rand, e *epoch.Epoch, name string, host int, folded bool) sight {
	inner := netip.AddrFrom4([4]byte{10, 0, byte(host), byte(r.IntN(4))}).As16()
	outer := netip.AddrFrom4([4]byte{192, byte(r.IntN(2)), byte(r.IntN(3)), byte(r.IntN(200))}).As16()
	if r.IntN(4) == 0 {
		inner = netip.MustParseAddr(fmt.Sprintf("2001:db8:%d::%d", host, r.IntN(3))).As16()
		outer = netip.MustParseAddr(fmt.Sprintf("2001:db9:%d::%d", r.IntN(3), r.IntN(3))).As16()
	}
	key := flow.Key{
		Source: inner, Destination: outer, SourcePort: uint16(40000 + r.IntN(3)), DestinationPort: []uint16{53, 443}[r.IntN(2)],
		Protocol: []uint8{flow.ProtocolTCP, flow.ProtocolUDP}[r.IntN(2)],
	}
	direction := flow.Egress
	if r.IntN(3) == 0 {
		key.Source, key.Destination = key.Destination, key.Source
		direction = flow.Ingress
	}
	seen := sight{key, name, direction, uint64(100 + r.ExpFloat64()*1000)}
	count := epoch.Count{Packets: 1, Bytes: seen.bytes}
	at := slices.IndexFunc(e.Flows, func(f epoch.Flow) bool { return f.Key == key })
	switch {
	case folded && r.IntN(3) == 0:
		foldMass(r, e, &key, count)
		if at >= 0 {
			e.Flows[at].Error += seen.bytes
		}
	case at >= 0:
		e.Flows[at].Add(count)
	default:
		f := epoch.Flow{Key: key, Direction: direction, Count: count}
		if folded {
			f.Error = e.Folded(flow.Source).Bytes // an upper bound
		}
		e.Flows = append(e.Flows, f)
	}
	return seen
}

// fold puts a count into both ladders at a random step.
func foldMass(r *rand.Rand, e *epoch.Epoch, key *flow.Key, count epoch.Count) {
	for _, d := range flow.Dimensions {
		address := key.Addr(d)
		steps := []int{32, 24, 16, 8, 0}
		if address.Is6() {
			steps = []int{128, 64, 48, 32, 0}
		}
		prefix, _ := address.Prefix(steps[r.IntN(len(steps))])
		e.Ladders = append(e.Ladders, epoch.Ladder{Dimension: d, Entries: []epoch.Prefix{{Prefix: prefix, Count: count}}})
	}
}

// randomFilter asks for a few things about one of the sights.
func (s *sights) randomFilter(r *rand.Rand) Filter {
	about := &s.all[r.IntN(len(s.all))]
	f := Filter{Networks: s.table}
	ends := func(address netip.Addr) Ends {
		if r.IntN(3) == 0 {
			return Ends{Network: s.table.Name(uint16(r.IntN(s.table.Len())))}
		}
		prefix, _ := address.Prefix([]int{7, 8, 15, 16, 24, 32}[r.IntN(6)])
		return Ends{Prefix: prefix}
	}
	for range r.IntN(4) {
		switch r.IntN(9) {
		case 0:
			f.Exporters = []string{about.exporter, "nobody"}
		case 1:
			f.Direction = &about.direction
		case 2:
			f.Protocol = &about.Protocol
		case 3:
			f.Port = &about.DestinationPort
		case 4:
			f.SourcePort = &about.SourcePort
		case 5:
			f.DestinationPort = &about.DestinationPort
		case 6:
			f.Either = ends(about.SourceAddr())
		case 7:
			f.Source = ends(about.SourceAddr())
		case 8:
			f.Destination = ends(about.DestinationAddr())
		}
	}
	return f
}

// asked is the slow answer to whether a filter selects a sight.
func (s *sights) asked(f *Filter, x *sight) bool {
	in := func(e Ends, a netip.Addr) bool {
		return (!e.Prefix.IsValid() || e.Prefix.Contains(a)) && (e.Network == "" || s.table.Name(s.table.Lookup(a)) == e.Network)
	}
	return (f.Exporters == nil || slices.Contains(f.Exporters, x.exporter)) &&
		(f.Direction == nil || *f.Direction == x.direction) &&
		(f.Protocol == nil || *f.Protocol == x.Protocol) &&
		(f.Port == nil || *f.Port == x.SourcePort || *f.Port == x.DestinationPort) &&
		(f.SourcePort == nil || *f.SourcePort == x.SourcePort) &&
		(f.DestinationPort == nil || *f.DestinationPort == x.DestinationPort) &&
		(in(f.Either, x.SourceAddr()) || in(f.Either, x.DestinationAddr())) &&
		in(f.Source, x.SourceAddr()) && in(f.Destination, x.DestinationAddr())
}

// sum adds up what a filter and a condition select.
func (s *sights) sum(f *Filter, also func(*sight) bool) (bytes uint64) {
	for i := range s.all {
		if s.asked(f, &s.all[i]) && also(&s.all[i]) {
			bytes += s.all[i].bytes
		}
	}
	return bytes
}

func everything(*sight) bool { return true }

// In every answer about every filter the truth is in its interval, and sums add up:
// of stores that fold, young and old.
func TestFilter(t *testing.T) {
	for i := range 24 {
		r := rand.New(rand.NewPCG(uint64(i), 9))
		s, clock := newTestStore(func(c *Configuration) {
			if i%3 > 0 {
				c.MaxFlows, c.MaxPrefixes = 3+r.IntN(20), 2+r.IntN(30)
			}
		})
		clock.at(30)
		truth := simulateFleet(t, r, s, i%2 == 1)
		for _, at := range []float64{30, 60, 400} {
			clock.at(at)
			for range 5 {
				f := truth.randomFilter(r)
				w := s.Last(15 * time.Minute).Filter(f)
				truth.check(t, fmt.Sprintf("%d at %v: %s", i, at, describe(&f)), w, &f)
			}
		}
	}
}

func describe(f *Filter) string {
	text := fmt.Sprintf("%v %v %v %v", f.Exporters, f.Either, f.Source, f.Destination)
	if f.Protocol != nil {
		text += fmt.Sprint(" protocol ", *f.Protocol)
	}
	for _, port := range []*uint16{f.Port, f.SourcePort, f.DestinationPort} {
		if port != nil {
			text += fmt.Sprint(" port ", *port)
		}
	}
	return text
}

func (s *sights) check(t *testing.T, name string, w *Window, f *Filter) {
	t.Helper()
	between := func(what string, lower, bytes, upper, truth uint64) {
		if truth < lower || truth > upper || bytes < lower || bytes > upper {
			t.Fatalf("%s: %s has %d, truth %d, between %d and %d", name, what, bytes, truth, lower, upper)
		}
	}
	between("total", w.Counted.Bytes, w.Counted.Bytes, w.Counted.Bytes+w.unknown(), s.sum(f, everything))
	for _, d := range flow.Dimensions {
		tree := w.Tree(d)
		if tree.Total() != w.Counted {
			t.Fatalf("%s: the %s tree has %v of %v", name, d, tree.Total(), w.Counted)
		}
		view := tree.View(0)
		s.checkView(t, &view, func(v *hhh.View) {
			between(d.String()+" "+v.String(), v.Lower, v.Bytes, v.Upper, s.sum(f, func(x *sight) bool {
				return v.Prefix.Contains(hhh.FromNetip(netip.PrefixFrom(x.Addr(d), x.Addr(d).BitLen())))
			}))
		})
	}
	flows := w.Flowless().Bytes
	for _, ranked := range w.TopFlows(1 << 20) {
		flows += ranked.Bytes
		between("a flow", ranked.Lower, ranked.Bytes, ranked.Upper, s.sum(f, func(x *sight) bool { return x.Key == ranked.Key }))
	}
	if flows != w.Counted.Bytes {
		t.Fatalf("%s: flows have %d of %d", name, flows, w.Counted.Bytes)
	}
	for _, ranked := range w.TopProtocols(10) {
		between("a protocol", ranked.Lower, ranked.Bytes, ranked.Upper, s.sum(f, func(x *sight) bool { return x.Protocol == ranked.Key }))
	}
	for _, ranked := range w.TopNetworks(s.table, 10) {
		between("two networks", ranked.Lower, ranked.Bytes, ranked.Upper, s.sum(f, func(x *sight) bool {
			return s.table.Name(s.table.Lookup(x.SourceAddr())) == ranked.Key.Source && s.table.Name(s.table.Lookup(x.DestinationAddr())) == ranked.Key.Destination
		}))
	}
	s.checkPairs(t, name, w, f, between)
}

func (s *sights) checkPairs(t *testing.T, name string, w *Window, f *Filter, between func(what string, lower, bytes, upper, truth uint64)) {
	t.Helper()
	for _, pair := range w.HeavyPairs(0.05) {
		between(fmt.Sprint(pair.Pair), pair.Lower, pair.Bytes, pair.Upper, s.sum(f, func(x *sight) bool {
			return pair.Source.Contains(hhh.AddrPrefix(x.Source)) && pair.Destination.Contains(hhh.AddrPrefix(x.Destination))
		}))
		if pair.Source.Family() == hhh.Any && pair.Bytes != w.Counted.Bytes {
			t.Fatalf("%s: all pairs have %d of %d", name, pair.Bytes, w.Counted.Bytes)
		}
	}
}

// checkView asks about every node that isn't a rest, and adds up children.
func (s *sights) checkView(t *testing.T, v *hhh.View, ask func(*hhh.View)) {
	t.Helper()
	ask(v)
	var sum epoch.Count
	for i := range v.Children {
		sum.Add(v.Children[i].Count)
		if !v.Children[i].Rest {
			s.checkView(t, &v.Children[i], ask)
		}
	}
	if len(v.Children) > 0 && sum != v.Count {
		t.Fatalf("the children of %v have %v of %v", v, sum, v.Count)
	}
}

// Without anything folded a filter's answer is the truth.
func TestFilterIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	s, clock := newTestStore(nil)
	clock.at(30)
	truth := simulateFleet(t, r, s, false)
	for range 200 {
		f := truth.randomFilter(r)
		w := s.Last(time.Minute).Filter(f)
		if got, want := w.Counted.Bytes, truth.sum(&f, everything); got != want || w.Unattributed.Bytes != 0 {
			t.Errorf("%s has %d and %d that may be, want %d", describe(&f), got, w.Unattributed.Bytes, want)
		}
	}
}

// What was folded at or below the one prefix that is asked for is in the answer.
func TestFilterTakesFolded(t *testing.T) {
	s, clock := newTestStore(nil)
	clock.at(1)
	e := &epoch.Epoch{Sequence: 1, Start: t0, End: t0.Add(time.Second)}
	k := key("10.0.0.1", "192.0.2.1", 443)
	e.Flows = []epoch.Flow{{Key: k, Count: epoch.Count{Packets: 1, Bytes: 1000}}}
	for _, d := range flow.Dimensions {
		for prefix, bytes := range map[string]uint64{"10.0.0.0/24": 500, "10.0.0.0/8": 70, "172.16.0.0/16": 3} {
			e.Ladders = append(e.Ladders, epoch.Ladder{Dimension: d, Entries: []epoch.Prefix{{Prefix: netip.MustParsePrefix(prefix), Count: epoch.Count{Packets: 1, Bytes: bytes}}}})
		}
	}
	if err := s.Append("a", e); err != nil {
		t.Fatal(err)
	}
	source := Ends{Prefix: netip.MustParsePrefix("10.0.0.0/16")}
	w := s.Last(time.Minute).Filter(Filter{Source: source})
	if w.Counted.Bytes != 1500 || w.Unattributed.Bytes != 70 || w.Tree(flow.Destination).Root().SelfBytes != 500 {
		t.Errorf("%v, %v, at the root %d", w.Counted, w.Unattributed, w.Tree(flow.Destination).Root().SelfBytes)
	}
	tcp := uint8(flow.ProtocolTCP)
	w = s.Last(time.Minute).Filter(Filter{Source: source, Protocol: &tcp})
	if w.Counted.Bytes != 1000 || w.Unattributed.Bytes != 570 {
		t.Errorf("of TCP %v, %v", w.Counted, w.Unattributed)
	}
}

// In each step of a series the parts add up, and all steps to the window.
func TestSeries(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	s, clock := newTestStore(nil)
	clock.at(30)
	simulateFleet(t, r, s, true)
	w := s.Last(time.Minute)
	for _, d := range flow.Dimensions {
		tree := w.Tree(d)
		var prefixes []hhh.Prefix
		heavy := tree.Heavy(0.05)
		for _, h := range heavy {
			prefixes = append(prefixes, h.Prefix)
		}
		series := w.Series(d, prefixes, 7*time.Second)
		var sum epoch.Count
		for step := range series.Times {
			parts := series.Rest[step]
			for _, p := range series.Prefixes {
				parts += p.Conditioned[step]
			}
			if parts != series.Total[step].Bytes {
				t.Errorf("step %d: parts have %d of %d", step, parts, series.Total[step].Bytes)
			}
			sum.Add(series.Total[step])
		}
		if sum != w.Counted || len(series.Times) < 9 {
			t.Errorf("%d steps have %v of %v", len(series.Times), sum, w.Counted)
		}
		for i, p := range series.Prefixes {
			var bytes uint64
			for _, step := range p.Bytes {
				bytes += step
			}
			if bytes != heavy[i].Bytes {
				t.Errorf("%v has %d of %d", p.Prefix, bytes, heavy[i].Bytes)
			}
		}
	}
}

// A flow of which two hosts counted a part, in different directions, belongs to neither
// for sure.
func TestFilterOfSharedFlows(t *testing.T) {
	w := &Window{exporters: []*exporter{{id: 0, name: "a"}, {id: 1, name: "b"}}}
	shared := counted{Key: key("10.0.0.1", "192.0.2.1", 1), exporter: 0, directions: directionsOf(flow.Egress), Count: epoch.Count{Packets: 1, Bytes: 100}}
	other := shared
	other.exporter, other.directions = 1, directionsOf(flow.Ingress)
	own := shared
	own.Key = key("10.0.0.1", "192.0.2.1", 2)
	c := &content{flows: []counted{shared, other, own}, counted: epoch.Count{Packets: 3, Bytes: 300}}
	c.setMatrix(nil)
	c.compact(bounds{flows: 10, prefixes: 100, bytes: 1 << 20})
	w.add(time.Time{}, c)
	egress := flow.Egress
	for _, f := range []Filter{{Exporters: []string{"a"}}, {Direction: &egress}} {
		got := w.Filter(f)
		if got.Counted.Bytes != 100 || got.Unattributed.Bytes != 200 {
			t.Errorf("%s: %v, %v", describe(&f), got.Counted, got.Unattributed)
		}
	}
}
