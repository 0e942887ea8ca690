package fold

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// forwarder is a host that sees each packet at all points of a path, one after the
// other, and how its records come in.
type forwarder struct {
	entries int
	epochs  int
	delay   float64 // at most, from the first point to the last, in epochs
	order   string
	// path returns the points that a flow passes at a time.
	path func(flow uint64, at float64) []uint16
	lost float64 // share of the records for which there is no room in the ring
}

// sighting is a packet at a point.
type sighting struct {
	at float64 // in epochs
	Record
}

// stepLengths are the lengths of the ladders' prefixes.
func stepLengths(a netip.Addr) []int {
	if a.Is4() {
		return append(slices.Clone(ipv4Steps), 0)
	}
	return append(slices.Clone(ipv6Steps), 0)
}

// traffic makes the packets of so many flows in every epoch, in an order, and what
// the host's points see of them, by epoch. The first packets pass in epoch 0.
func (f *forwarder) traffic(flows int) (sent []Record, seen [][]sighting) {
	r := rand.New(rand.NewPCG(7, 7))
	seen = make([][]sighting, f.epochs+1)
	for n := range f.epochs {
		all := packets(flows)
		orders[f.order](all)
		for i := range all {
			at := float64(n) + float64(i)/float64(len(all))
			if f.delay < 1 { // nothing is on its way when an epoch ends
				at = float64(n) + float64(i)/float64(len(all))*(1-f.delay)
			}
			path := f.path(all[i].Hash, at)
			last := at
			for j, point := range path {
				s := sighting{last, all[i]}
				s.Point = point
				seen[int(last)] = append(seen[int(last)], s)
				if left := at + f.delay - last; j+1 < len(path) {
					last += left * r.Float64() / float64(len(path)-1-j)
				}
			}
		}
		sent = append(sent, all...)
	}
	for n := range seen {
		jitter(r, seen[n])
	}
	return sent, seen
}

// jitter brings an epoch's records in an order as that in which the kernel gives
// them up: roughly by time.
func jitter(r *rand.Rand, seen []sighting) {
	for i := range seen {
		seen[i].at += 0.05 * r.Float64()
	}
	slices.SortFunc(seen, func(a, b sighting) int { return cmp.Compare(a.at, b.at) })
}

// run lets a ledger count, and returns its epochs. The first records of each epoch
// come in before the one before is closed.
func (f *forwarder) run(seen [][]sighting) []*epoch.Epoch {
	l := NewLedger(LedgerConfig{Entries: f.entries, LadderEntries: 128, SketchWidth: 256, Points: 16})
	r := rand.New(rand.NewPCG(8, 8))
	totals, remainders := make([]epoch.Count, len(seen)+1), make([]epoch.Count, len(seen)+1)
	add := func(n int, records []sighting) {
		for i := range records {
			totals[n].Add(records[i].Count)
			if r.Float64() < f.lost {
				remainders[n].Add(records[i].Count)
				continue
			}
			l.Add(Half(n%2), &records[i].Record)
		}
	}
	var epochs []*epoch.Epoch
	early := 0
	for n := range seen {
		add(n, seen[n][early:])
		if early = 0; n+1 < len(seen) {
			early = len(seen[n+1]) / 10
			add(n+1, seen[n+1][:early])
		}
		b := l.Close(Half(n % 2))
		e := b.asEpoch(totals[n], remainders[n])
		e.Flows = slices.Clone(e.Flows)
		e.Sketches = nil
		epochs = append(epochs, e)
		l.Reset(Half(n % 2))
	}
	return epochs
}

// stepIntervals is what PrefixInterval says of every prefix of the ladders' lengths
// with an address below it, in one pass.
func stepIntervals(e *epoch.Epoch, d flow.Dimension, prefixes map[netip.Prefix]uint64) map[netip.Prefix]epoch.Interval {
	type parts struct{ counted, doubtful, below, at uint64 }
	sums := map[netip.Prefix]parts{}
	each := func(a netip.Addr, longest int, add func(*parts)) {
		for _, bits := range stepLengths(a) {
			if bits <= longest {
				p := netip.PrefixFrom(a, bits).Masked()
				sum := sums[p]
				add(&sum)
				sums[p] = sum
			}
		}
	}
	for i := range e.Flows {
		f := &e.Flows[i]
		each(f.Addr(d), 128, func(s *parts) { s.counted += f.Bytes; s.doubtful += f.Doubtful })
	}
	for i := range e.Ladders {
		if e.Ladders[i].Dimension != d {
			continue
		}
		for _, folded := range e.Ladders[i].Entries {
			each(folded.Addr(), folded.Bits(), func(s *parts) { s.below += folded.Bytes })
			sum := sums[folded.Prefix]
			sum.at += folded.Bytes
			sums[folded.Prefix] = sum
		}
	}
	intervals := make(map[netip.Prefix]epoch.Interval, len(prefixes))
	for p := range prefixes {
		s, above := sums[p], e.Remainder().Bytes+e.Hidden.Bytes
		for _, bits := range stepLengths(p.Addr()) {
			if bits < p.Bits() {
				above += sums[netip.PrefixFrom(p.Addr(), bits).Masked()].at
			}
		}
		intervals[p] = epoch.Interval{
			Lower: s.counted - s.doubtful + s.below - min(s.below, e.Doubtful.Bytes),
			Upper: s.counted + s.below + above,
		}
	}
	return intervals
}

// stepTruth is what was sent by prefix of each of the ladders' lengths.
func stepTruth(sent []Record, d flow.Dimension) map[netip.Prefix]uint64 {
	truth := map[netip.Prefix]uint64{}
	for i := range sent {
		a := sent[i].Addr(d)
		for _, bits := range stepLengths(a) {
			truth[netip.PrefixFrom(a, bits).Masked()] += sent[i].Bytes
		}
	}
	return truth
}

// outcome is how the epochs compare with what was sent.
type outcome struct {
	sent, counted, doubtful, hidden, duplicates uint64
	widest                                      float64
}

func (o outcome) String() string {
	share := func(n uint64) float64 { return 100 * float64(n) / float64(o.sent) }
	return fmt.Sprintf("counted %.1f %%, doubtful %.1f %%, hidden %.1f %%, duplicates %.1f %%",
		share(o.counted), share(o.doubtful), share(o.hidden), share(o.duplicates))
}

// checkSums asserts that what was sent of every flow and prefix is in the sum of its
// intervals over the epochs.
func checkSums(t *testing.T, epochs []*epoch.Epoch, sent []Record) (o outcome) {
	t.Helper()
	type bounds struct{ lower, upper, spared uint64 }
	flows, exact := map[flow.Key]bounds{}, map[flow.Key]uint64{}
	for i := range sent {
		o.sent += sent[i].Bytes
		exact[sent[i].Key] += sent[i].Bytes
	}
	var lost uint64
	for n, e := range epochs {
		for _, d := range flow.Dimensions {
			if left := e.Unaccounted(d); left != (epoch.Count{}) {
				t.Fatalf("epoch %d: %v unaccounted by %s", n, left, d)
			}
		}
		elsewhere := e.Folded(flow.Source).Bytes + e.Hidden.Bytes + e.Remainder().Bytes
		lost += elsewhere
		o.counted += e.Folded(flow.Source).Bytes
		o.doubtful += e.Doubtful.Bytes
		o.hidden += e.Hidden.Bytes
		o.duplicates += e.Duplicates().Bytes
		for i := range e.Flows {
			f := &e.Flows[i]
			o.counted += f.Bytes
			o.doubtful += f.Doubtful
			interval, b := e.FlowInterval(f), flows[f.Key]
			b.lower += interval.Lower
			b.upper += interval.Upper
			b.spared += elsewhere // in it, or not this flow's
			flows[f.Key] = b
		}
	}
	for key, bytes := range exact {
		b := flows[key]
		if upper := b.upper + lost - b.spared; bytes < b.lower || bytes > upper {
			t.Errorf("flow %v: %d bytes, not in %d to %d", key, bytes, b.lower, upper)
			return o
		}
	}
	for _, d := range flow.Dimensions {
		truth, sums := stepTruth(sent, d), map[netip.Prefix]epoch.Interval{}
		for _, e := range epochs {
			for p, interval := range stepIntervals(e, d, truth) {
				sum := sums[p]
				sum.Lower += interval.Lower
				sum.Upper += interval.Upper
				sums[p] = sum
			}
		}
		for p, bytes := range truth {
			if !sums[p].Contains(bytes) {
				t.Errorf("%s %v: %d bytes, not in %v", d, p, bytes, sums[p])
				return o
			}
		}
	}
	return o
}

// through is a path that doesn't change.
func through(points ...uint16) func(uint64, float64) []uint16 {
	return func(uint64, float64) []uint16 { return points }
}

func TestForwarderIntervals(t *testing.T) {
	const flows = 3000
	for _, points := range [][]uint16{{2, 5}, {2, 4, 7}} {
		for order := range orders {
			for _, delay := range []float64{0.01, 0.3, 1} {
				for _, part := range []int{10, 5, 1} {
					name := fmt.Sprintf("%d points, %s, delay %v, 1/%d", len(points), order, delay, part)
					t.Run(name, func(t *testing.T) {
						f := forwarder{entries: flows * len(points) / part, epochs: 5, delay: delay, order: order, path: through(points...)}
						if part == 1 {
							f.entries *= 4
						}
						sent, seen := f.traffic(flows)
						fmt.Println("X", name, checkSums(t, f.run(seen), sent))
					})
				}
			}
		}
	}
}
