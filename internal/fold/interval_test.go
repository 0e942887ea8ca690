package fold

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// mixedKey is a flow of either family, with sources that share prefixes.
func mixedKey(n uint64) flow.Key {
	k := testKey(n)
	if n%3 == 0 {
		k.Source = [16]byte{0x20, 1, 0x0d, 0xb8, byte(n % 5), byte(n % 7), 14: byte(n >> 8), 15: byte(n)}
		k.Destination = [16]byte{0x20, 1, 0x0d, 0xb9, 7: byte(n % 11), 15: byte(n % 13)}
	} else {
		k.Source = netip.AddrFrom4([4]byte{byte(10 + n%40), byte(n >> 4), byte(n % 97), byte(n >> 8)}).As16()
	}
	return k
}

// packets are those of so many flows whose sizes follow Zipf's law, by flow in
// descending order of bytes.
func packets(flows int) (records []Record) {
	r := rand.New(rand.NewPCG(uint64(flows), 3))
	for n := range uint64(flows) {
		hash := r.Uint64()
		for range 1 + flows/(10*int(n+1)) {
			records = append(records, Record{
				Key: mixedKey(n), Point: 2, Hash: hash, Count: epoch.Count{Packets: 1, Bytes: 60 + r.Uint64N(1400)},
			})
		}
	}
	return records
}

// orders are ways in which packets may come.
var orders = map[string]func([]Record){
	"elephants first": func([]Record) {},
	"mice first":      slices.Reverse[[]Record],
	"shuffled": func(all []Record) {
		rand.New(rand.NewPCG(8, 8)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	},
}

// truth is what was sent, exactly, by flow and by prefix of each dimension.
type truth struct {
	total    epoch.Count
	flows    map[flow.Key]uint64
	prefixes [2]map[netip.Prefix]uint64
}

func newTruth(records []Record) *truth {
	t := &truth{flows: map[flow.Key]uint64{}, prefixes: [2]map[netip.Prefix]uint64{{}, {}}}
	for i := range records {
		r := &records[i]
		t.total.Add(r.Count)
		t.flows[r.Key] += r.Bytes
		for _, d := range flow.Dimensions {
			a := r.Addr(d)
			for bits := a.BitLen(); bits >= 0; bits -= 8 {
				p, err := a.Prefix(bits)
				if err != nil {
					panic(err)
				}
				t.prefixes[d][p] += r.Bytes
			}
		}
	}
	return t
}

// asEpoch makes an epoch of what a ledger closed.
func (b *Books) asEpoch(total, remainder epoch.Count) *epoch.Epoch {
	device := epoch.Device{Name: "eth0", Total: total, Remainder: remainder}
	for _, c := range b.Duplicates {
		device.Duplicate.Add(c)
	}
	return &epoch.Epoch{Devices: []epoch.Device{device}, Flows: b.Flows, Ladders: b.Ladders, Sketches: b.Sketches, Doubtful: b.Doubtful, Hidden: b.Hidden}
}

// checkIntervals asserts that the truth is in every flow's and prefix's interval,
// that every byte is booked, and that the largest flow is known well.
func (t *truth) checkIntervals(test *testing.T, e *epoch.Epoch) {
	test.Helper()
	for _, d := range flow.Dimensions {
		if left := e.Unaccounted(d); left != (epoch.Count{}) {
			test.Errorf("%v unaccounted by %s", left, d)
		}
	}
	for i := range e.Flows {
		f := &e.Flows[i]
		if interval := e.FlowInterval(f); !interval.Contains(t.flows[f.Key]) {
			test.Fatalf("flow %v: %d bytes, not in %v", f.Key, t.flows[f.Key], interval)
		}
	}
	for _, d := range flow.Dimensions {
		all := slices.SortedFunc(maps.Keys(t.prefixes[d]), func(a, b netip.Prefix) int {
			return cmp.Or(cmp.Compare(t.prefixes[d][b], t.prefixes[d][a]), cmp.Compare(a.String(), b.String()))
		})
		for i, p := range all {
			if i > 300 && i%17 != 0 {
				continue // the largest, and a sample of the others: the check is slow
			}
			if interval := e.PrefixInterval(d, p); !interval.Contains(t.prefixes[d][p]) {
				test.Fatalf("%s %v: %d bytes, not in %v", d, p, t.prefixes[d][p], interval)
			}
		}
	}
}

// With room for a tenth of the flows, and now and then a full ring, the truth is
// in every interval, whatever the order of packets.
func TestTruthIsInEveryInterval(t *testing.T) {
	const flows = 6000
	for name, order := range orders {
		for _, lost := range []float64{0, 0.02} {
			t.Run(fmt.Sprintf("%s, %v lost", name, lost), func(t *testing.T) {
				records := packets(flows)
				order(records)
				r := rand.New(rand.NewPCG(2, 2))
				l := NewLedger(LedgerConfig{Entries: flows / 10, LadderEntries: 128, SketchWidth: 256, Points: 4})
				var remainder epoch.Count
				for i := range records {
					if r.Float64() < lost {
						remainder.Add(records[i].Count)
					} else {
						l.Add(0, &records[i])
					}
				}
				b := l.Close(0)
				exact := newTruth(records)
				e := b.asEpoch(exact.total, remainder)
				exact.checkIntervals(t, e)
				if e.Folded(flow.Source).Bytes == 0 || len(b.Flows) > flows/10 {
					t.Fatalf("%d flows, folded %v: the table isn't too small", len(b.Flows), e.Folded(flow.Source))
				}
			})
		}
	}
}

// The sketch bounds what was folded of a flow, and for most by little more than
// that: by e divided by its width, of all that was folded.
func TestErrorIsTheSketchs(t *testing.T) {
	const width = 512
	records := packets(6000)
	orders["shuffled"](records)
	l := NewLedger(LedgerConfig{Entries: 600, LadderEntries: 128, SketchWidth: width, Points: 4})
	for i := range records {
		l.Add(0, &records[i])
	}
	b := l.Close(0)
	exact := newTruth(records)
	folded, beyond := b.asEpoch(exact.total, epoch.Count{}).Folded(flow.Source).Bytes, 0
	for i := range b.Flows {
		f := &b.Flows[i]
		of := exact.flows[f.Key] - f.Bytes
		if f.Error < of {
			t.Fatalf("error %d, but %d bytes of the flow were folded", f.Error, of)
		}
		if f.Error > of+uint64(math.E/width*float64(folded)) {
			beyond++
		}
	}
	if beyond*20 > len(b.Flows) {
		t.Errorf("%d of %d flows have a larger error than stated", beyond, len(b.Flows))
	}
}
