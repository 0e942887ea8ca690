package top

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// list writes a table's rows and rests with their bytes in the window.
func list(t *table) []string {
	var lines []string
	for i := range t.rows {
		lines = append(lines, fmt.Sprint(strings.Join(t.rows[i].label(t.names), " "), " ", t.rows[i].sums[t.window].Bytes))
	}
	for _, r := range t.rests {
		lines = append(lines, fmt.Sprint("(", r.text, ") ", r.sums[t.window].Bytes))
	}
	return lines
}

func viewNamed(t *testing.T, name string) *view {
	t.Helper()
	i := slices.Index(viewNames(), name)
	if i < 0 {
		t.Fatalf("no view %s", name)
	}
	return &views[i]
}

func mustFilter(t *testing.T, text string) filter {
	t.Helper()
	f, err := parseFilter(text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestTables(t *testing.T) {
	h := filled(4, mixedEpoch) // 2 s
	const rests = "(without a 5-tuple) 240|(remainder, ring full) 20000"
	for _, test := range []struct{ view, filter, want string }{
		{"flows", "", "10.0.0.1:40000 172.16.0.10:443 tcp 2000000|10.0.0.2:40001 172.16.0.10:443 tcp 1000000|" +
			"[2001:db8:1234:5678:9abc:def0:1234:5678]:50000 [2001:db8::1]:53 udp 400000|10.0.1.3 192.168.100.200 icmp 200000|" +
			"10.0.0.1:33333 10.9.8.7:44444 udp 100000|(folded into prefixes) 160000|" + rests},
		{"flows", "port 443", "10.0.0.1:40000 172.16.0.10:443 tcp 2000000|10.0.0.2:40001 172.16.0.10:443 tcp 1000000|" +
			"(filtered out) 700000|(folded into prefixes) 160000|" + rests},
		{"flows", "src net 10.7.0.0/16", "(filtered out) 3820000|(folded into prefixes) 40000|" + rests},
		// What was folded to a whole address counts for it.
		{"sources", "", "10.0.0.1 2220000|10.0.0.2 1000000|2001:db8:1234:5678:9abc:def0:1234:5678 400000|10.0.1.3 200000|" +
			"(folded into prefixes) 40000|" + rests},
		{"sources", "net 10.0.0.0/24", "10.0.0.1 2220000|10.0.0.2 1000000|(filtered out) 600000|(folded into prefixes) 40000|" + rests},
		{"destinations", "", "172.16.0.10 3000000|2001:db8::1 400000|192.168.100.200 200000|10.9.8.7 100000|" +
			"(folded into prefixes) 160000|" + rests},
		{"services", "", "tcp 443 https 3000000|udp 53 domain 400000|icmp - icmp 200000|udp 33333 - 100000|" +
			"(folded into prefixes) 160000|" + rests},
		{"services", "proto udp", "udp 53 domain 400000|udp 33333 - 100000|(filtered out) 3200000|(folded into prefixes) 160000|" + rests},
		{"destination-prefixes", "dst net 172.16.0.0/12", "172.16.0.0/24 3120000|172.16.0.10/32 3000000|(filtered out) 740000|" + rests},
		{"devices", "", "eth0 egress 3880240|br0 ingress 492000"},
		{"devices", "eth", "eth0 egress 3880240|(filtered out) 492000"},
	} {
		got := list(tabulate(h, query{view: viewNamed(t, test.view), filter: mustFilter(t, test.filter)}))
		if want := strings.Split(test.want, "|"); !slices.Equal(got, want) {
			t.Errorf("%s, filter %q: got\n%s\nwant\n%s", test.view, test.filter, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func TestOrder(t *testing.T) {
	many := testFlow("10.0.0.9:1", "10.0.0.8:2", flow.ProtocolUDP, 1000)
	many.Packets = 1 << 20
	h := filled(4, func(sequence uint64) *epoch.Epoch { return testEpoch(sequence, append(slices.Clone(steady), many)...) })
	for _, test := range []struct {
		order   order
		reverse bool
		want    string
	}{
		{byBytes, false, "10.0.0.1 10.0.0.2 2001:db8:1234:5678:9abc:def0:1234:5678 10.0.1.3 10.0.0.9"},
		{byBytes, true, "10.0.0.9 10.0.1.3 2001:db8:1234:5678:9abc:def0:1234:5678 10.0.0.2 10.0.0.1"},
		{byPackets, false, "10.0.0.9 10.0.0.1 10.0.0.2 2001:db8:1234:5678:9abc:def0:1234:5678 10.0.1.3"},
		{byName, false, "10.0.0.1 10.0.0.2 10.0.0.9 10.0.1.3 2001:db8:1234:5678:9abc:def0:1234:5678"},
		{byName, true, "2001:db8:1234:5678:9abc:def0:1234:5678 10.0.1.3 10.0.0.9 10.0.0.2 10.0.0.1"},
	} {
		q := query{view: viewNamed(t, "sources"), reverse: test.reverse}
		q.sortBy(test.order)
		var got []string
		for _, r := range tabulate(h, q).rows {
			got = append(got, r.label(false)...)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s, reverse %t: got %v, want %s", orders[test.order], test.reverse, got, test.want)
		}
	}
}

func TestNames(t *testing.T) {
	h := filled(1, mixedEpoch)
	q := query{view: viewNamed(t, "flows"), names: true, filter: mustFilter(t, "port 443 or port 53 or port 44444")}
	var got []string
	for _, r := range tabulate(h, q).rows {
		got = append(got, r.label(true)[1])
	}
	if want := "172.16.0.10:https 172.16.0.10:https [2001:db8::1]:domain 10.9.8.7:44444"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// randomEpoch conserves traffic, in both dimensions.
func randomEpoch(random *rand.Rand, sequence uint64) *epoch.Epoch {
	e := mixedEpoch(sequence)
	e.Sketches = nil
	address := func() netip.AddrPort {
		if random.IntN(4) == 0 {
			return netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 1, 15: byte(random.IntN(9))}), uint16(random.IntN(500)))
		}
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(random.IntN(3)), byte(random.IntN(3)), byte(random.IntN(9))}), uint16(random.IntN(500)))
	}
	for range random.IntN(100) {
		f := testFlow(address().String(), address().String(), uint8(random.IntN(20)), random.Uint64N(1<<random.IntN(30)))
		e.Flows = append(e.Flows, f)
		e.Devices[0].Total.Add(f.Count)
	}
	for range random.IntN(20) {
		c := epoch.Count{Packets: random.Uint64N(50), Bytes: random.Uint64N(1 << 20)}
		for d := range e.Ladders {
			a := address().Addr()
			p, _ := a.Prefix([]int{0, 8, 16, 24, 32}[random.IntN(5)] * a.BitLen() / 32)
			e.Ladders[d].Entries = append(e.Ladders[d].Entries, epoch.Prefix{Prefix: p, Count: c})
		}
		e.Devices[0].Total.Add(c)
	}
	return e
}

// In every view, under every filter, however few rows are shown, what is shown adds up
// to all traffic, in every window, to the byte and the packet.
func TestShownAddsUp(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	filters := []string{"", "10", "port 0-99", "src net 10.1.0.0/16", "not net 2001::/16", "dst net 10.0.0.0/8 or proto udp", "eth", "nothing"}
	for range 20 {
		h := filled(1+random.IntN(100), func(sequence uint64) *epoch.Epoch { return randomEpoch(random, sequence) })
		counted := h.totals().counted()
		for i := range views {
			text := filters[random.IntN(len(filters))]
			q := query{view: &views[i], filter: mustFilter(t, text), window: random.IntN(len(windows))}
			q.sortBy(order(random.IntN(len(orders))))
			table := tabulate(h, q)
			if table.total != counted && q.view.name != "devices" {
				t.Errorf("%s: the total is %v, want %v", q.view.name, table.total, counted)
			}
			shown, rests := table.page(random.IntN(30), random.IntN(30))
			var got sums
			for i := range shown {
				got.add(&shown[i].own)
			}
			for i := range rests {
				got.add(&rests[i].sums)
			}
			if got != table.total {
				t.Errorf("%s, filter %q: %v is shown of %v", q.view.name, text, got, table.total)
			}
			// And the rest that is left over is the rows that are hidden.
			var hidden sums
			for i := range table.rows {
				hidden.add(&table.rows[i].own)
			}
			for i := range shown {
				hidden.sub(&shown[i].own)
			}
			if len(shown) < len(table.rows) && rests[0].sums != hidden {
				t.Errorf("%s, filter %q: other is %v, the hidden rows %v", q.view.name, text, rests[0].sums, hidden)
			}
		}
	}
}

// The prefixes, their bytes and what is theirs alone are what package hhh finds.
func TestPrefixesAreTheHeavyOnes(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		h := filled(1+random.IntN(30), func(sequence uint64) *epoch.Epoch { return randomEpoch(random, sequence) })
		q := query{view: viewNamed(t, "source-prefixes"), window: 1}
		builder, first := hhh.NewBuilder(hhh.Steps(8, 16)), 0
		first, _ = h.reach(windows[1])
		var masses []hhh.Mass
		for _, e := range h.epochs[first:] {
			for i := range e.Flows {
				masses = append(masses, hhh.Mass{Prefix: hhh.AddrPrefix(e.Flows[i].Source), Count: e.Flows[i].Count})
			}
			for _, p := range e.Ladders[flow.Source].Entries {
				masses = append(masses, hhh.Mass{Prefix: hhh.FromNetip(p.Prefix), Count: p.Count})
			}
		}
		builder.Add(masses)
		want := map[string]hhh.Heavy{}
		for _, heavy := range builder.Build().Heavy(phi) {
			want[heavy.Prefix.String()] = heavy
		}
		table := tabulate(h, q)
		if len(table.rows) != len(want) {
			t.Errorf("%d prefixes, want %d", len(table.rows), len(want))
		}
		for _, r := range table.rows {
			heavy := want[r.label(false)[0]]
			if r.sums[1] != heavy.Count || r.own[1].Bytes != heavy.Conditioned {
				t.Errorf("%v: %v, %d of its own; want %v, %d", r.label(false), r.sums[1], r.own[1].Bytes, heavy.Count, heavy.Conditioned)
			}
		}
	}
}

// BenchmarkTabulate is the largest history that an exporter with default settings
// makes: 40 s of floods.
func BenchmarkTabulate(b *testing.B) {
	random := rand.New(rand.NewPCG(7, 8))
	h := filled(80, func(sequence uint64) *epoch.Epoch {
		flows := make([]epoch.Flow, 1000)
		for i := range flows {
			key := flow.Key{Protocol: flow.ProtocolUDP, SourcePort: uint16(random.Uint32()), DestinationPort: 443}
			key.Source = netip.AddrFrom4([4]byte{byte(random.Uint32()), byte(random.Uint32()), byte(random.Uint32()), 1}).As16()
			flows[i] = epoch.Flow{Key: key, Count: epoch.Count{Packets: 1, Bytes: 1000}}
		}
		e := testEpoch(sequence, flows...)
		for _, d := range flow.Dimensions {
			ladder := epoch.Ladder{Dimension: d}
			for _, length := range []int{32, 24, 16, 8} {
				for range 1024 {
					address := netip.AddrFrom4([4]byte{byte(random.Uint32()), byte(random.Uint32()), byte(random.Uint32()), 2})
					ladder.Entries = append(ladder.Entries, epoch.Prefix{Prefix: netip.PrefixFrom(address, length).Masked(), Count: epoch.Count{Packets: 1, Bytes: 1000}})
				}
			}
			e.Ladders = append(e.Ladders, ladder)
		}
		return e
	})
	for i := range views {
		b.Run(views[i].name, func(b *testing.B) {
			for b.Loop() {
				takeSnapshot(h, query{view: &views[i], window: 2})
			}
		})
	}
}
