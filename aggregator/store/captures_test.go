package store

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/exporter/window"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/fold"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// fleetSize is how many exporters see a capture together.
const fleetSize = 16

// A fleet says where a packet is seen: at one exporter or two, by their numbers.
type fleet struct {
	name     string
	seenAt   func(p *testutil.Packet) []int
	networks [fleetSize][]netip.Prefix // behind each exporter
}

// fleets are two.
//
// Taps see each source's packets at one of them, and none of the addresses is their
// own: all is in transit.
//
// Gateways have a sixteenth of all addresses behind them each: what goes from one part
// to another is seen at two of them, each of which lists and folds as it likes.
var fleets = []*fleet{
	{name: "taps", seenAt: func(p *testutil.Packet) []int { return []int{numberOf(p.Source)} }},
	{
		name: "gateways", networks: sixteenths(),
		seenAt: func(p *testutil.Packet) []int {
			return slices.Compact([]int{firstBits(p.Source), firstBits(p.Destination)})
		},
	},
}

// sixteenths are networks by the first four bits of their addresses, but for those
// with 0.0.0.0 and with ::, which are nobody's.
func sixteenths() (networks [fleetSize][]netip.Prefix) {
	for i := 1; i < fleetSize; i++ {
		networks[i] = []netip.Prefix{
			netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(i) << 4}), 4),
			netip.PrefixFrom(netip.AddrFrom16([16]byte{byte(i) << 4}), 4),
		}
	}
	for _, network := range []string{"1.0.0.0/8", "2.0.0.0/7", "4.0.0.0/6", "8.0.0.0/5"} {
		networks[0] = append(networks[0], netip.MustParsePrefix(network))
	}
	return networks
}

// all is where hosts of the fleet are, as every exporter's configuration says.
func (f *fleet) all() []netip.Prefix { return slices.Concat(f.networks[:]...) }

func numberOf(address [16]byte) int {
	k := flow.Key{Source: address}
	return int(k.Hash(&flow.HashSeed{1, 2, 3, 4, 5}) % fleetSize)
}

func firstBits(address [16]byte) int {
	return int(netip.AddrFrom16(address).Unmap().AsSlice()[0] >> 4)
}

// share is what one exporter sees.
func (f *fleet) share(packets []testutil.Packet, exporter int) (records []fold.Record, flows int) {
	seed, keys := flow.HashSeed{5, 4, 3, 2, 1}, map[flow.Key]bool{}
	for i := range packets {
		if p := &packets[i]; slices.Contains(f.seenAt(p), exporter) {
			r := fold.Record{Key: p.Key, Point: 2, Hash: p.Hash(&seed), Count: epoch.Count{Packets: 1, Bytes: p.Bytes}}
			records = append(records, r)
			keys[p.Key] = true
		}
	}
	return records, len(keys)
}

// sent is the epoch of what an exporter with room for one flow in ten saw, as an
// aggregator gets it: over the wire, with half of those flows listed.
func (f *fleet) sent(t *testing.T, packets []testutil.Packet, exporter int) *epoch.Epoch {
	t.Helper()
	records, flows := f.share(packets, exporter)
	networks := f.networks[exporter]
	ledger := fold.NewLedger(fold.LedgerConfig{Entries: flows / 10, LadderEntries: 1024, SketchWidth: 1024, Points: 4})
	defer ledger.Free()
	ledger.SetClassifier(fold.Classifier{Local: networks, Fleet: f.all()})
	ledger.AddBatch(make([]fold.Half, len(records)), records)
	var total epoch.Count
	for i := range records {
		total.Add(records[i].Count)
	}
	books := ledger.Close(0)
	e := &epoch.Epoch{
		Host: fmt.Sprint(exporter), Sequence: 1, Start: t0, End: t0.Add(time.Second), LocalNetworks: networks,
		Devices: []epoch.Device{{Name: "eth0", Total: total}},
		Flows:   books.Flows, Ladders: books.Ladders, Sketches: books.Sketches,
	}
	return overTheWire(t, e, window.HistoryConfig{
		Flows: max(1, flows/20), Retention: time.Minute, MaxBytes: 1 << 30, Fleet: f.all(),
	})
}

func overTheWire(t *testing.T, e *epoch.Epoch, c window.HistoryConfig) *epoch.Epoch {
	t.Helper()
	h := window.NewHistory(c)
	if err := h.Add(e); err != nil {
		t.Fatal(err)
	}
	answer, err := h.After(0, 1, 1).Epochs[0].Decompress(epoch.EncodeBatchHeader([16]byte{1}, 1, 1))
	if err != nil {
		t.Fatal(err)
	}
	batch, err := epoch.DecodeBatch(answer)
	if err != nil {
		t.Fatal(err)
	}
	return batch.Epochs[0]
}

// truth is what was sent, by address.
type truth map[hhh.Prefix]uint64

func truthOf(packets []testutil.Packet, d flow.Dimension) (bytes truth, total uint64) {
	bytes = truth{}
	for i := range packets {
		bytes[hhh.FromNetip(netip.PrefixFrom(packets[i].Addr(d), packets[i].Addr(d).BitLen()))] += packets[i].Bytes
		total += packets[i].Bytes
	}
	return bytes, total
}

// up returns the next shorter prefix of some levels; above both families is all.
func up(levels hhh.Levels, p hhh.Prefix) hhh.Prefix {
	lengths := levels.IPv4
	if p.Family() == hhh.IPv6 {
		lengths = levels.IPv6
	}
	if i := slices.Index(lengths, p.Length()); i > 0 {
		return p.Truncate(lengths[i-1])
	}
	return hhh.Prefix{}
}

// nodes sums the truth up along the prefixes.
func (b truth) nodes(levels hhh.Levels) truth {
	sums := truth{}
	for p, n := range b {
		for ; p != (hhh.Prefix{}); p = up(levels, p) {
			sums[p] += n
		}
		sums[p] += n
	}
	return sums
}

// heavy is the definition (Cormode et al., see package hhh): from the longest
// prefixes up, those are heavy that have the share of the total without what heavy
// ones below them have.
func (b truth) heavy(levels hhh.Levels, phi float64, total uint64) map[hhh.Prefix]bool {
	found, left := map[hhh.Prefix]bool{}, truth{}
	for p, n := range b {
		left[p] = n
	}
	for length := 128; length >= 0; length-- {
		for p, n := range left {
			switch {
			case p.Family() == hhh.Any || p.Length() != length:
			case float64(n)/float64(total) >= phi:
				found[p] = true
			default:
				left[up(levels, p)] += n
			}
		}
	}
	if all := (hhh.Prefix{}); float64(left[all])/float64(total) >= phi {
		found[all] = true
	}
	return found
}

// reports are what all of a fleet's exporters send.
func (f *fleet) reports(t *testing.T, packets []testutil.Packet) (epochs [fleetSize]*epoch.Epoch) {
	t.Helper()
	for i := range epochs {
		epochs[i] = f.sent(t, packets, i)
	}
	return epochs
}

// delivered is a store that got what a fleet saw.
func delivered(t *testing.T, epochs [fleetSize]*epoch.Epoch, change func(*Configuration)) (*Store, *clock) {
	t.Helper()
	s, clock := newTestStore(change)
	clock.at(1.1)
	for _, e := range epochs {
		s.SetUp(e.Host, true)
		if err := s.Append(e.Host, e); err != nil {
			t.Fatal(err)
		}
	}
	return s, clock
}

// inBothOrders runs a test with a capture's packets in order and shuffled.
func inBothOrders(t *testing.T, c testutil.Capture, test func(t *testing.T, packets []testutil.Packet)) {
	packets := c.ReadPackets(t)
	t.Run("in order", func(t *testing.T) { test(t, packets) })
	shuffled := slices.Clone(packets)
	rand.New(rand.NewPCG(3, 3)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	t.Run("shuffled", func(t *testing.T) { test(t, shuffled) })
}

// hierarchies are of the ladders' steps and of finer ones.
var hierarchies = map[string]hhh.Levels{"byte steps": hhh.Steps(8, 16), "4-bit steps": hhh.Steps(4, 4)}

// What 16 exporters with room for one flow in ten saw of a capture has the capture's
// heavy prefixes, every byte once, and the truth in the interval of every prefix.
func TestHeavyPrefixesOfCaptures(t *testing.T) {
	testutil.ForEachCapture(t, func(t *testing.T, c testutil.Capture) {
		inBothOrders(t, c, func(t *testing.T, packets []testutil.Packet) {
			for _, f := range fleets {
				epochs := f.reports(t, packets)
				for name, levels := range hierarchies {
					s, clock := delivered(t, epochs, func(c *Configuration) { c.Levels = levels })
					for _, state := range []string{"open", "closed"} {
						checkWindow(t, fmt.Sprintf("%s, %s, %s", f.name, name, state), s.Last(time.Minute), packets, levels, 0.99)
						clock.at(30)
					}
				}
			}
		})
	})
}

// With room for a few prefixes in all, not every heavy prefix is found, most of all
// between the steps by which folding goes; but the intervals say so.
func TestIntervalsOfCapturesInLittleRoom(t *testing.T) {
	testutil.ForEachCapture(t, func(t *testing.T, c testutil.Capture) {
		packets := c.ReadPackets(t)
		for _, f := range fleets {
			epochs := f.reports(t, packets)
			for name, levels := range hierarchies {
				s, clock := delivered(t, epochs, func(c *Configuration) { c.Levels, c.MaxPrefixes, c.MaxFlows = levels, 64, 16 })
				clock.at(30)
				checkWindow(t, f.name+", "+name, s.Last(time.Minute), packets, levels, 0)
			}
		}
	})
}

// checkWindow compares both trees of a window with the truth.
func checkWindow(t *testing.T, what string, w *Window, packets []testutil.Packet, levels hhh.Levels, want float64) {
	t.Helper()
	for _, d := range flow.Dimensions {
		bytes, total := truthOf(packets, d)
		tree := w.Tree(d)
		if tree.Total().Bytes != total || tree.Total().Packets != uint64(len(packets)) {
			t.Errorf("%s, %s: counted %v of %d packets and %d bytes", what, d, tree.Total(), len(packets), total)
		}
		checkNodes(t, what+", "+d.String(), tree, bytes.nodes(levels))
		for _, phi := range []float64{0.05, 0.01} {
			checkHeavy(t, fmt.Sprintf("%s, %s, phi %v", what, d, phi), tree.Heavy(phi), bytes.heavy(levels, phi, total), want)
		}
	}
}

// checkNodes asserts that the truth is in the interval of every node of a tree.
func checkNodes(t *testing.T, what string, tree *hhh.Tree, sums truth) {
	t.Helper()
	nodes := 0
	var check func(v *hhh.View)
	check = func(v *hhh.View) {
		if v.Rest {
			return
		}
		nodes++
		if n := sums[v.Prefix]; n < v.Lower || n > v.Upper {
			t.Errorf("%s: %v has %d bytes, not in [%d, %d]", what, v.Prefix, n, v.Lower, v.Upper)
		}
		for i := range v.Children {
			check(&v.Children[i])
		}
	}
	root := tree.View(0)
	check(&root)
	if nodes < tree.Len() {
		t.Errorf("%s: looked at %d nodes of %d", what, nodes, tree.Len())
	}
}

func checkHeavy(t *testing.T, what string, got []hhh.Heavy, exact map[hhh.Prefix]bool, want float64) {
	t.Helper()
	both := 0.0
	for _, h := range got {
		if exact[h.Prefix] {
			both++
		}
	}
	recall, precision := both/float64(len(exact)), both/float64(len(got))
	t.Logf("%s: %d heavy, recall %.3f, precision %.3f", what, len(exact), recall, precision)
	if !(recall >= want && precision >= want) { // nor if there is none
		t.Errorf("%s: recall %.3f, precision %.3f, want %.2f", what, recall, precision, want)
	}
}
