package traffic

import (
	"crypto/sha256"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range texts {
		p, err := ParseAddresses(text)
		if err != nil {
			panic(err)
		}
		list = append(list, p)
	}
	return list
}

// between is a valid configuration with addresses of both families.
func between(packets uint64, flows int) Configuration {
	c := DefaultConfiguration()
	c.Packets, c.Flows, c.Rate = packets, flows, 0
	c.Sources = prefixes("172.25.10.3", "172.25.10.64/27", "fd25:10::b:0/112")
	c.Destinations = prefixes("172.25.20.3", "172.25.20.65", "fd25:20::3", "fd25:20::c:1")
	c.Spoofed = prefixes("198.18.0.0/16")
	// Ports without a protocol that gopacket would look for in the data.
	c.Ports = []uint16{7001, 8080, 9090}
	return c
}

func generator(t testing.TB, c Configuration) *Generator {
	t.Helper()
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestPlanKeepsItsPromises(t *testing.T) {
	for _, mode := range []Mode{Normal, Heavy} {
		for _, d := range []Distribution{{Uniform, 0}, {Zipf, 1.2}, {Pareto, 1.1}} {
			c := between(200_000, 5000)
			c.Mode, c.Distribution = mode, d
			flows := generator(t, c).Flows()
			var packets uint64
			keys := map[flow.Key]bool{}
			for _, f := range flows {
				packets += f.Planned
				keys[f.Key] = true
				if f.Planned == 0 {
					t.Errorf("%s, %v: %+v has no packets", mode, d, f.Key)
				}
				if f.Key.SourceAddr().Is4() != f.Key.DestinationAddr().Is4() {
					t.Errorf("%s, %v: %v to %v", mode, d, f.Key.SourceAddr(), f.Key.DestinationAddr())
				}
			}
			if packets != c.Packets || len(flows) != c.Flows || len(keys) != c.Flows {
				t.Errorf("%s, %v: %d packets over %d flows with %d keys", mode, d, packets, len(flows), len(keys))
			}
		}
	}
}

func TestShares(t *testing.T) {
	c := between(100_000, 10_000)
	c.UDPShare, c.IPv6Share = 0.25, 0.6
	udp, ipv6 := 0, 0
	for _, f := range generator(t, c).Flows() {
		if f.Key.Protocol == flow.ProtocolUDP {
			udp++
		}
		if f.Key.SourceAddr().Is6() {
			ipv6++
		}
	}
	// 5 standard deviations of a binomial with 10,000 draws are below 250.
	if udp < 2250 || udp > 2750 || ipv6 < 5750 || ipv6 > 6250 {
		t.Errorf("%d UDP and %d IPv6 of 10,000 flows, want about 2,500 and 6,000", udp, ipv6)
	}
}

func TestSpreadShapes(t *testing.T) {
	random := newRandom(1, planStream)
	if got, want := (Distribution{Uniform, 0}).spread(11, 4, random), []uint64{3, 3, 3, 2}; !slices.Equal(got, want) {
		t.Errorf("uniform: %v, want %v", got, want)
	}
	// Shares 1/2 : 1/4 ... of Zipf 1 over 3 flows are 6:3:2 of 11.
	if got, want := (Distribution{Zipf, 1}).spread(1103, 3, random), []uint64{601, 301, 201}; !slices.Equal(got, want) {
		t.Errorf("zipf:1: %v, want %v", got, want)
	}
	heaviest := slices.Max((Distribution{Pareto, 0.5}).spread(1_000_000, 1000, random))
	if heaviest < 50_000 {
		t.Errorf("pareto:0.5: the heaviest of 1,000 flows has %d of 1,000,000 packets", heaviest)
	}
}

func TestHeavyPlan(t *testing.T) {
	c := between(100_000, 2000)
	c.Mode = Heavy
	victim := netip.MustParseAddr("172.25.20.3")
	spoofed, scanned, large := map[netip.Addr]bool{}, map[uint16]bool{}, uint64(0)
	for _, f := range generator(t, c).Flows() {
		switch {
		case f.behaviour != probe:
			large += f.Planned
		case f.Key.DestinationAddr() != victim:
			t.Errorf("attack on %v", f.Key.DestinationAddr())
		case c.Spoofed[0].Contains(f.Key.SourceAddr()):
			spoofed[f.Key.SourceAddr()] = true
		default:
			scanned[f.Key.DestinationPort] = true
		}
	}
	if len(spoofed) < 1500 || len(scanned) != 249 || large < 45_000 {
		t.Errorf("%d spoofed sources, %d scanned ports, %d packets of elephants", len(spoofed), len(scanned), large)
	}
}

// frames makes all frames of a plan, as Run would send them, with one
// imaginary hop for every destination.
func frames(t *testing.T, c Configuration) [32]byte {
	t.Helper()
	g := generator(t, c)
	g.hops = make([]hop, len(destinationsOf(g.flows)))
	g.batch = &batch{}
	hash := sha256.New()
	for g.order.left > 0 {
		count := g.due(0)
		g.fill(count)
		for i := range count {
			f := &g.batch.frames[i]
			hash.Write(f.headers[:f.length])
		}
	}
	return [32]byte(hash.Sum(nil))
}

func TestSeedDeterminesEveryPacket(t *testing.T) {
	for _, mode := range []Mode{Normal, Heavy} {
		c := between(5000, 300)
		c.Mode = mode
		first, second := frames(t, c), frames(t, c)
		if first != second {
			t.Errorf("%s: two runs with one seed differ", mode)
		}
		c.Seed++
		if frames(t, c) == first {
			t.Errorf("%s: two seeds give the same packets", mode)
		}
	}
}

// The order deals out every flow's packets, all of them, and well mixed.
func TestOrderDealsThePlan(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 8, 9, 100} {
		random := rand.New(rand.NewPCG(uint64(n), 0))
		flows := make([]Flow, n)
		for i := range flows {
			flows[i].Planned = random.Uint64N(50)
		}
		o := newOrder(flows)
		for o.left > 0 {
			flows[o.next(random)].Packets++
		}
		for i, f := range flows {
			if f.Packets != f.Planned {
				t.Errorf("%d flows: flow %d got %d packets, want %d", n, i, f.Packets, f.Planned)
			}
		}
	}
	flows := []Flow{{Planned: 10_000}, {Planned: 10_000}}
	o, firstHalf := newOrder(flows), 0
	random := newRandom(1, orderStream)
	for range 10_000 {
		firstHalf += o.next(random)
	}
	if firstHalf < 4600 || firstHalf > 5400 {
		t.Errorf("of the first 10,000 packets %d are of the second flow, want about half", firstHalf)
	}
}

func TestDrawStaysInPrefix(t *testing.T) {
	random := newRandom(1, planStream)
	for _, p := range prefixes("10.1.2.3", "10.1.2.64/27", "10.0.0.0/8", "0.0.0.0/0", "fd25::1", "fd25:10::b:0/112", "fd00::/7") {
		seen := map[netip.Addr]bool{}
		for range 1000 {
			a := addressSet{p}.draw(random)
			if !p.Contains(a) {
				t.Fatalf("%v isn't in %v", a, p)
			}
			seen[a] = true
		}
		if open := p.Addr().BitLen() - p.Bits(); (open == 0) != (len(seen) == 1) || open == 5 && len(seen) != 32 {
			t.Errorf("%v: %d addresses in 1,000 draws", p, len(seen))
		}
	}
}

func TestValidate(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Configuration)
		want   string
	}{
		"valid":        {func(*Configuration) {}, ""},
		"mode":         {func(c *Configuration) { c.Mode = "x" }, `mode "x": allowed are normal and heavy`},
		"sources":      {func(c *Configuration) { c.Sources = nil }, "no sources"},
		"destinations": {func(c *Configuration) { c.Destinations = nil }, "no destinations"},
		"ports":        {func(c *Configuration) { c.Ports = nil }, "no destination ports"},
		"no end":       {func(c *Configuration) { c.Packets, c.Rate = 0, 100 }, "no end: give packets, or a duration and a rate"},
		"too few":      {func(c *Configuration) { c.Packets = 5 }, "5 packets are too few for 10 flows"},
		"too many":     {func(c *Configuration) { c.Packets = 1e11 }, "100000000000 packets: at most 10000000000 are allowed"},
		"too long":     {func(c *Configuration) { c.Duration = 25 * MaxDuration }, "duration 600h0m0s: must be from 0 to 24h0m0s"},
		"frame size":   {func(c *Configuration) { c.FrameSize.Max = 9000 }, "frame size 42-9000: must be a range from 42 to 1514"},
		"IPv6 share":   {func(c *Configuration) { c.IPv6Share = 2 }, "IPv6 share 2: must be from 0 to 1"},
		"distribution": {func(c *Configuration) { c.Distribution.Exponent = -1 }, `distribution "zipf:-1": allowed are uniform, zipf:EXPONENT and pareto:SHAPE, with a number above 0 and at most 10`},
		"family":       {func(c *Configuration) { c.Sources, c.IPv6Share = prefixes("10.0.0.1"), 1 }, "sources and destinations must both have addresses of every family that is to be sent"},
		"not distinct": {func(c *Configuration) {
			c.Destinations, c.Sources, c.IPv6Share = prefixes("10.0.0.1"), prefixes("10.0.0.1"), 0
		}, "addresses and ports don't give 10 distinct flows"},
	} {
		t.Run(name, func(t *testing.T) {
			c := between(1000, 10)
			test.change(&c)
			got := ""
			if _, err := New(c); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
