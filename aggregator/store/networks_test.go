package store

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/fold"
	"github.com/traffic-monitor-agent/tma/internal/networks"
	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

// table names networks: pairs of prefix and name.
func table(pairs ...string) *networks.Table {
	var list []networks.Network
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, networks.Network{
			Prefix: yamlconf.Prefix{Prefix: netip.MustParsePrefix(pairs[i])}, Name: networks.Name(pairs[i+1]),
		})
	}
	return networks.NewTable(list)
}

// Two prefixes have one name, and one is within another; no name is on the
// boundary that ladders fold to.
var someNetworks = []string{
	"10.0.0.0/9", "corp", "10.0.1.0/28", "lab", "10.128.0.0/9", "corp", "192.0.2.0/24", "web", "2001:db8::/33", "lab",
}

func randomAddress(r *rand.Rand) netip.Addr {
	last := byte(r.IntN(64))
	switch r.IntN(4) {
	case 0:
		return netip.AddrFrom4([4]byte{10, byte(r.IntN(2)) << 7, byte(r.IntN(3)), last})
	case 1:
		return netip.AddrFrom4([4]byte{192, 0, byte(1 + r.IntN(2)), last})
	case 2:
		return netip.AddrFrom4([4]byte{byte(r.IntN(256)), byte(r.IntN(256)), 0, last})
	}
	return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(r.IntN(2)) << 7, 15: last})
}

// talks is the truth about pairs of networks, in bytes.
type talks map[[2]string]uint64

// name is the oracle of a name: the first listed prefix of the greatest length.
func name(a netip.Addr, pairs []string) string {
	found, length := networks.Unnamed, -1
	for i := 0; i < len(pairs); i += 2 {
		if p := netip.MustParsePrefix(pairs[i]); p.Contains(a) && p.Bits() > length {
			found, length = pairs[i+1], p.Bits()
		}
	}
	return found
}

// foldingHost sees flows to one destination mostly, as in a flood, and folds most.
func foldingHost(r *rand.Rand, seconds, flows int, truth talks) *host {
	h := newHost("a")
	victim := randomAddress(r)
	for second := range seconds {
		ladders := fold.NewLadders(1 + r.IntN(8))
		e := h.epoch(float64(second) + 0.2)
		for port := range flows {
			source, destination := randomAddress(r), randomAddress(r)
			if r.IntN(3) > 0 {
				destination = victim
			}
			k := flow.Key{Source: source.As16(), Destination: destination.As16(), SourcePort: uint16(port)}
			c := epoch.Count{Packets: 1 + r.Uint64N(3), Bytes: 100 + r.Uint64N(1000)}
			truth[[2]string{name(source, someNetworks), name(destination, someNetworks)}] += c.Bytes
			if r.IntN(4) == 0 {
				e.Flows = append(e.Flows, epoch.Flow{Key: k, Count: c})
			} else {
				ladders.Add(epoch.Own, &k, c)
			}
		}
		e.Ladders = ladders.Snapshot()
	}
	return h
}

// The matrix adds up to what is counted, whatever was folded and whatever its
// bucket gave up, and each pair's truth is in its interval.
func TestNetworks(t *testing.T) {
	var known, all uint64
	for i := range 60 {
		r := rand.New(rand.NewPCG(uint64(i), 7))
		truth := make(talks)
		h := foldingHost(r, 25, 1+r.IntN(100), truth)
		s, clock := newTestStore(func(c *Configuration) { c.MaxFlows, c.MaxPrefixes = 1+r.IntN(30), 2+r.IntN(30) })
		s.SetNetworks(table(someNetworks...))
		clock.at(25)
		deliver(t, r, s, h)
		for _, seconds := range []float64{25, 60, 400} { // open, closed, coarse
			clock.at(seconds)
			w := s.Last(15 * time.Minute)
			checkNetworks(t, w, truth)
			checkTotals(t, s.Totals())
		}
		for _, n := range s.Last(15 * time.Minute).Networks() {
			if all += n.Bytes; n.Destination != networks.Unknown {
				known += n.Bytes
			}
		}
	}
	if known < all/3 {
		t.Errorf("of %d bytes only %d have a pair", all, known)
	}
}

func checkNetworks(t *testing.T, w *Window, truth talks) {
	t.Helper()
	var sum epoch.Count
	pairs := w.Networks()
	for _, n := range pairs {
		sum.Add(n.Count)
		is := truth[[2]string{n.Source, n.Destination}]
		switch {
		case n.Source == networks.Unknown || n.Destination == networks.Unknown:
			if n.Lower != 0 {
				t.Errorf("at least %d are from %s to %s", n.Lower, n.Source, n.Destination)
			}
		case is < n.Lower || is > n.Upper || n.Bytes < n.Lower || n.Bytes > n.Upper:
			t.Errorf("from %s to %s are %d, and %d in [%d, %d]", n.Source, n.Destination, is, n.Bytes, n.Lower, n.Upper)
		}
	}
	if sum != w.Counted {
		t.Errorf("the matrix adds up to %v of %v: %v", sum, w.Counted, pairs)
	}
}

func checkTotals(t *testing.T, totals Totals) {
	t.Helper()
	var pairs, destinations epoch.Count
	for _, n := range totals.Networks {
		pairs.Add(n.Count)
	}
	for _, n := range totals.Destinations {
		destinations.Add(n.Count)
	}
	if pairs != totals.Counted || destinations != totals.Counted {
		t.Errorf("counted %v, pairs have %v, destinations %v", totals.Counted, pairs, destinations)
	}
}

// In a flood to one network it is known where all of it goes, though no flow is.
func TestNetworksOfAFlood(t *testing.T) {
	h := newHost("a")
	h.folds(0.2, epoch.Own, "10.0.0.0/24", "192.0.2.7/32", 700)
	h.folds(0.2, epoch.Own, "0.0.0.0/0", "192.0.2.7/32", 9000)
	h.folds(0.2, epoch.Own, "10.0.0.0/24", "10.128.0.0/9", 300)
	s, clock := newTestStore(nil)
	s.SetNetworks(table(someNetworks...))
	clock.at(1)
	deliver(t, rand.New(rand.NewPCG(1, 1)), s, h)
	got := make(map[NetworkPair]uint64)
	for _, n := range s.Last(time.Minute).Networks() {
		got[NetworkPair{Source: n.Source, Destination: n.Destination}] = n.Bytes
	}
	want := map[NetworkPair]uint64{
		{Source: "corp", Destination: "web"}: 700, {Source: "corp", Destination: networks.Unknown}: 300,
		{Source: networks.Unknown, Destination: networks.Unknown}: 9000,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	for _, n := range s.Totals().Destinations {
		if want := map[string]uint64{"web": 9700, "corp": 300}[n.Name]; n.Bytes != want {
			t.Errorf("%d are to %s, want %d", n.Bytes, n.Name, want)
		}
	}
}

// Counters of pairs never fall and always add up to the fleet's, while hosts come
// and go, epochs come in any order and late, and networks get other names.
func TestNetworksAreCounters(t *testing.T) {
	for i := range 30 {
		r := rand.New(rand.NewPCG(uint64(i), 5))
		hosts := []*host{newHost("router-1", "10.9.0.1/32"), newHost("router-2", "10.9.0.2/32"), newHost("b", "10.0.0.0/32"), newHost("c", "10.0.0.1/32", "10.1.0.0/16")}
		for range 200 {
			simulate(r, hosts, make(map[flow.Key]uint64))
		}
		s, clock := newTestStore(nil)
		clock.at(20)
		previous := make(map[[2]string]epoch.Count)
		for len(hosts) > 0 {
			x := r.IntN(len(hosts))
			h := hosts[x]
			if len(h.epochs) == 0 {
				hosts = append(hosts[:x:x], hosts[x+1:]...)
				continue
			}
			s.SetUp(h.name, r.IntN(8) > 0)
			if err := s.Append(h.name, h.epochs[0]); err != nil {
				t.Fatal(err)
			}
			h.epochs = h.epochs[1:]
			if r.IntN(10) == 0 {
				s.SetNetworks(table("10.0.0.0/16", fmt.Sprint("n-", r.IntN(3)), "10.1.0.0/16", "n-0"))
			}
			if r.IntN(20) == 0 {
				clock.now = clock.now.Add(time.Second)
			}
			totals := s.Totals()
			checkTotals(t, totals)
			previous = checkRise(t, previous, totals)
		}
	}
}

func checkRise(t *testing.T, previous map[[2]string]epoch.Count, totals Totals) map[[2]string]epoch.Count {
	t.Helper()
	next := make(map[[2]string]epoch.Count)
	for _, n := range totals.Networks {
		next[[2]string{n.Source, n.Destination}] = n.Count
	}
	for p, before := range previous {
		if after := next[p]; after.Bytes < before.Bytes || after.Packets < before.Packets {
			t.Errorf("%v fell from %v to %v", p, before, after)
		}
	}
	return next
}

// A name that is gone keeps what was counted under it.
func TestOtherNames(t *testing.T) {
	h := newHost("a")
	h.sees(0.2, key("10.0.0.1", "192.0.2.1", 1), 500)
	h.sees(30.2, key("10.0.0.1", "192.0.2.1", 1), 700)
	s, clock := newTestStore(nil)
	s.SetNetworks(table("10.0.0.0/8", "old"))
	clock.at(15)
	s.SetUp("a", true)
	late := h.epochs
	for i, e := range late {
		if i == len(late)-1 {
			clock.at(31)
			s.Totals()
			s.SetNetworks(table("10.0.0.0/8", "new", "192.0.2.0/24", "web"))
		}
		if err := s.Append("a", e); err != nil {
			t.Fatal(err)
		}
	}
	want := "[{{old unnamed} {5 500}} {{new web} {7 700}}]"
	if got := fmt.Sprint(s.Totals().Networks); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A matrix counts as memory of its content: what else there is makes room for it.
func TestMemoryOfMatrix(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	var named []networks.Network
	for i := range 64 {
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(i * 4)}), 6)
		named = append(named, networks.Network{Prefix: yamlconf.Prefix{Prefix: prefix}, Name: networks.Name(fmt.Sprintf("n%d", i))})
	}
	c := &content{distinct: make(distinct)}
	c.setNames(newNamer(networks.NewTable(named)))
	for range 20000 {
		f := epoch.Flow{Count: epoch.Count{Packets: 1, Bytes: 1 + r.Uint64N(1500)}}
		f.Source = netip.AddrFrom4([4]byte{byte(r.Uint32()), byte(r.Uint32()), 1, 1}).As16()
		f.Destination = netip.AddrFrom4([4]byte{byte(r.Uint32()), byte(r.Uint32()), 1, 1}).As16()
		c.addFlow(&exporter{}, &f, share{Count: f.Count}, 0)
	}
	within := bounds{flows: 1 << 14, prefixes: 1 << 14, bytes: 250_000}
	c.compact(within)
	if matrix, lists := c.matrix().size(), c.packed.size(); matrix < within.bytes/2 || matrix+lists > within.bytes {
		t.Errorf("the matrix takes %d bytes and the lists %d of %d", matrix, lists, within.bytes)
	}
	sum := c.other
	for f := range c.allFlows() {
		sum.Add(f.Count)
	}
	if sum != c.counted {
		t.Errorf("flows and others are %v of %v", sum, c.counted)
	}
}
