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

// checkEach asserts that what was sent in each epoch is in its intervals. No packet
// may be between points at its end.
func checkEach(t *testing.T, epochs []*epoch.Epoch, sent []Record) {
	t.Helper()
	each := len(sent) / (len(epochs) - 1)
	for n, e := range epochs[:len(epochs)-1] {
		now, exact := sent[n*each:(n+1)*each], map[flow.Key]uint64{}
		for i := range now {
			exact[now[i].Key] += now[i].Bytes
		}
		for i := range e.Flows {
			if f := &e.Flows[i]; !e.FlowInterval(f).Contains(exact[f.Key]) {
				t.Errorf("epoch %d: flow %v: %d bytes, not in %v", n, f.Key, exact[f.Key], e.FlowInterval(f))
				return
			}
		}
		for _, d := range flow.Dimensions {
			truth := stepTruth(now, d)
			looked := 0
			for p, interval := range stepIntervals(e, d, truth) {
				if !interval.Contains(truth[p]) {
					t.Errorf("epoch %d: %s %v: %d bytes, not in %v", n, d, p, truth[p], interval)
					return
				}
				if looked++; looked < 30 && interval != e.PrefixInterval(d, p) {
					t.Fatalf("%v is the interval of %v, not %v", e.PrefixInterval(d, p), p, interval)
				}
			}
		}
	}
}

// through is a path that doesn't change.
func through(points ...uint16) func(uint64, float64) []uint16 {
	return func(uint64, float64) []uint16 { return points }
}

// A host whose points share flows, with room for a tenth of them, for a fifth, or
// for all: the truth of every flow and every prefix is in the sum of its intervals,
// and in those of each epoch if none ends while packets are between points. With
// room for all of them counts and duplicates are exact and nothing is doubtful.
func TestForwarderIntervals(t *testing.T) {
	const flows = 3000
	for _, points := range [][]uint16{{2, 5}, {2, 4, 7}} {
		for order := range orders {
			for _, delay := range []float64{0.01, 0.3, 1} {
				for _, part := range []int{10, 5, 0} {
					t.Run(fmt.Sprintf("%d points, %s, delay %v, part %d", len(points), order, delay, part), func(t *testing.T) {
						f := forwarder{entries: 4 * flows * len(points), epochs: 5, delay: delay, order: order, path: through(points...)}
						if part > 0 {
							f.entries = flows * len(points) / part
						}
						sent, seen := f.traffic(flows)
						epochs := f.run(seen)
						o := checkSums(t, epochs, sent)
						t.Log(o)
						if delay < 1 {
							checkEach(t, epochs, sent)
						}
						if part == 0 && (o.doubtful != 0 || o.counted != o.sent || o.duplicates != o.sent*uint64(len(points)-1)) {
							t.Errorf("with room for all: %v", o)
						}
						if part > 0 && o.duplicates < o.sent/10 {
							t.Errorf("hardly any duplicates: %v", o)
						}
					})
				}
			}
		}
	}
}

// With room for half of the flows, what is doubtful is a small part, and with the
// memory of those that left nearly nothing counts twice.
func TestDoubtsAreFew(t *testing.T) {
	const flows = 3000
	for order := range orders {
		f := forwarder{entries: flows, epochs: 5, delay: 0.01, order: order, path: through(2, 5)}
		sent, seen := f.traffic(flows)
		o := checkSums(t, f.run(seen), sent)
		t.Log(order, o)
		if o.doubtful > o.sent/10 || o.counted > o.sent+o.sent/100 {
			t.Errorf("%s: %v", order, o)
		}
	}
}

// Nothing is doubtful and nothing hidden where each flow passes one point, however
// small the table.
func TestNoDoubtsWithoutForwarding(t *testing.T) {
	const flows = 3000
	for order := range orders {
		one := func(flow uint64, _ float64) []uint16 { return []uint16{2 + uint16(flow%2)} }
		f := forwarder{entries: flows / 10, epochs: 5, order: order, path: one}
		sent, seen := f.traffic(flows)
		epochs := f.run(seen)
		checkEach(t, epochs, sent)
		if o := checkSums(t, epochs, sent); o.doubtful != 0 || o.hidden != 0 || o.counted != o.sent {
			t.Errorf("%s: %v", order, o)
		}
	}
}

// Flows change to a path that has no point in common with the old one, at the end
// of an epoch or in the middle of it, one after the other or all at once, and some
// change back: what is taken for duplicates for a while is in the upper bounds.
func TestIntervalsHoldOverPathChanges(t *testing.T) {
	const flows = 1000
	old, now := []uint16{2, 5}, []uint16{8, 10}
	changes := map[string]func(uint64, float64) []uint16{
		"at an end":     func(_ uint64, at float64) []uint16 { return pick(at < 2, old, now) },
		"in the middle": func(_ uint64, at float64) []uint16 { return pick(at < 2.4, old, now) },
		"one by one":    func(flow uint64, at float64) []uint16 { return pick(at < 1+float64(flow%1000)/400, old, now) },
		"and back":      func(_ uint64, at float64) []uint16 { return pick(at < 1.5 || at > 2.5, old, now) },
		"to one point":  func(_ uint64, at float64) []uint16 { return pick(at < 1.7, old, now[:1]) },
		"half the host": func(flow uint64, at float64) []uint16 { return pick(at < 1.7 || flow%2 == 0, old, now) },
	}
	for name, change := range changes {
		for order := range orders {
			for _, delay := range []float64{0.01, 1} {
				for _, entries := range []int{16 * flows, 2 * flows / 10} {
					t.Run(fmt.Sprintf("%s, %s, delay %v, room for %d", name, order, delay, entries), func(t *testing.T) {
						f := forwarder{entries: entries, epochs: 4, delay: delay, order: order, path: change}
						sent, seen := f.traffic(flows)
						t.Log(checkSums(t, f.run(seen), sent))
					})
				}
			}
		}
	}
}

func pick[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

// A flow that the set has lost is doubtful where it is elected then, in that epoch
// and in the next one, in which the last of its packets may come; not where it was
// counted, and not later.
func TestDoubtLastsTwoEpochs(t *testing.T) {
	const in, out, lost, shared = 2, 5, 1, 2
	for _, test := range []struct {
		point uint16
		want  []uint64 // doubtful bytes by epoch
	}{{out, []uint64{100, 900, 0}}, {in, []uint64{0, 0, 0}}} {
		l := newTestLedger(tableWays)
		l.Add(0, testRecord(shared, in, 1, 100))
		l.Add(0, testRecord(shared, out, 1, 100)) // the host forwards
		l.Add(0, testRecord(lost, in, 10, 1000))
		for n := range uint64(3 * forgottenWays) {
			l.Add(0, testRecord(100+n, in, 1, 10_000+n))
		}
		for n, bytes := range []uint64{100, 900, 500} {
			h := Half(n % 2)
			l.Add(h, testRecord(lost, test.point, 1, bytes))
			b := l.Close(h)
			found := false
			for i := range b.Flows {
				if f := &b.Flows[i]; f.Key == testKey(lost) {
					found = true
					if f.Bytes != bytes || f.Doubtful != test.want[n] {
						t.Errorf("point %d, epoch %d: %d of %d bytes are doubtful, want %d of %d", test.point, n, f.Doubtful, f.Bytes, test.want[n], bytes)
					}
				}
			}
			if !found {
				t.Errorf("point %d: the flow isn't counted in epoch %d", test.point, n)
			}
			l.Reset(h)
		}
	}
}

// A ledger that goes on for another one on a host that forwards doesn't know where
// packets were counted that are on their way.
func TestResumedLedgerDoubts(t *testing.T) {
	const in, out = 2, 5
	for _, resumes := range []bool{false, true} {
		l := NewLedger(LedgerConfig{Entries: 64, LadderEntries: 64, Points: 8, Resumes: resumes})
		l.Add(0, testRecord(1, out, 1, 100)) // in may have counted it
		l.Add(0, testRecord(2, in, 1, 100))
		l.Add(0, testRecord(2, out, 1, 100))
		b := l.Close(0)
		for i := range b.Flows {
			if f := &b.Flows[i]; (f.Doubtful != 0) != resumes {
				t.Errorf("resumes %v: %d of %d bytes are doubtful", resumes, f.Doubtful, f.Bytes)
			}
		}
	}
}

// Of a flow that is elected without knowledge, all duplicates are hidden: what its
// new primary saw before, and another point after, was a duplicate at both.
func TestDuplicatesOfDoubtfulPrimaryAreHidden(t *testing.T) {
	const in, out, lost, shared = 2, 5, 1, 2
	l := newTestLedger(tableWays)
	l.Add(0, testRecord(shared, in, 1, 100))
	l.Add(0, testRecord(shared, out, 1, 100)) // the host forwards
	l.Add(0, testRecord(lost, out, 10, 1000))
	for n := range uint64(3 * forgottenWays) {
		l.Add(0, testRecord(100+n, in, 1, 10_000+n))
	}
	before := l.books[0].hidden
	l.Add(0, testRecord(lost, in, 1, 50_000))
	l.Add(0, testRecord(lost, out, 1, 40_000))
	b := l.Close(0)
	if hidden := b.Hidden.Bytes - before.Bytes; hidden != 40_000 {
		t.Errorf("%d bytes are hidden, want 40,000", hidden)
	}
}
