package fold

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

func testKey(n uint64) flow.Key {
	return flow.Key{
		Source:      netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}).As16(),
		Destination: netip.AddrFrom4([4]byte{172, 16, byte(n >> 4), byte(n >> 12)}).As16(),
		SourcePort:  uint16(n), DestinationPort: 443, Protocol: flow.ProtocolTCP,
	}
}

func testRecord(n uint64, point uint16, packets, bytes uint64) *Record {
	hash := n * 0x9e3779b97f4a7c15
	return &Record{Key: testKey(n), Point: point, Hash: hash ^ hash>>32<<7, Count: epoch.Count{Packets: packets, Bytes: bytes}}
}

func newTestLedger(entries int) *Ledger {
	return NewLedger(LedgerConfig{Entries: entries, LadderEntries: 64, Points: 8})
}

// sum adds up one side of the books.
func (b *Books) sum(d flow.Dimension) epoch.Count {
	e := epoch.Epoch{Ladders: b.Ladders}
	sum := e.Folded(d)
	for i := range b.Flows {
		sum.Add(b.Flows[i].Count)
	}
	for _, c := range b.Duplicates {
		sum.Add(c)
	}
	return sum
}

func (b *Books) counts() map[flow.Key]epoch.Count {
	all := map[flow.Key]epoch.Count{}
	for i := range b.Flows {
		c := all[b.Flows[i].Key]
		c.Add(b.Flows[i].Count)
		all[b.Flows[i].Key] = c
	}
	return all
}

// Whatever comes in, in whatever halves, from many points, into a table of a
// tenth of the size needed: every half's books hold what was added to it.
func TestEveryByteIsBooked(t *testing.T) {
	for _, entries := range []int{8, 64, 512, 8192} {
		r := rand.New(rand.NewPCG(uint64(entries), 1))
		l := newTestLedger(entries)
		var added [2]epoch.Count
		h := Half(0)
		for range 40 {
			for range 3000 {
				half := h
				if r.IntN(10) == 0 {
					half = 1 - h // already of the next epoch
				}
				record := testRecord(uint64(r.ExpFloat64()*400), uint16(r.IntN(6)), 1+r.Uint64N(5), 60+r.Uint64N(1000))
				added[half].Add(record.Count)
				l.Add(half, record)
			}
			b := l.Close(h)
			for _, d := range flow.Dimensions {
				if got := b.sum(d); got != added[h] {
					t.Fatalf("table of %d: books by %v hold %v, added %v", entries, d, got, added[h])
				}
			}
			l.Reset(h)
			added[h] = epoch.Count{}
			h = 1 - h
		}
	}
}

// With room for all of them, every flow's count is exact.
func TestFlowsAreExact(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	l := newTestLedger(1 << 14)
	want := map[flow.Key]epoch.Count{}
	for range 50_000 {
		record := testRecord(r.Uint64N(1000), 3, 1, r.Uint64N(1500))
		c := want[record.Key]
		c.Add(record.Count)
		want[record.Key] = c
		l.Add(0, record)
	}
	b := l.Close(0)
	if got := b.counts(); !maps.Equal(got, want) || len(b.Flows) != len(want) {
		t.Errorf("%d flows are booked as %d, or with other counts", len(want), len(b.Flows))
	}
	if got := b.Sketches[0].HLL.Estimate(); got < 970 || got > 1030 {
		t.Errorf("%d flows are estimated as %.0f", len(want), got)
	}
}

// A router sees each packet coming in and going out, some of them on either side
// of the end of an epoch.
func TestForwardedFlowCountsOnce(t *testing.T) {
	const in, out = 2, 5
	r := rand.New(rand.NewPCG(9, 9))
	l := newTestLedger(4096)
	var got, want, duplicate epoch.Count
	inFlight := map[uint64]uint64{}
	h := Half(0)
	for range 30 {
		for n := range uint64(200) {
			if late := inFlight[n]; late > 0 {
				l.Add(h, testRecord(n, out, late, late*100))
				inFlight[n] = 0
			}
			if r.IntN(3) == 0 {
				continue // silent in this epoch
			}
			packets := 1 + r.Uint64N(9)
			want.Add(epoch.Count{Packets: packets, Bytes: packets * 100})
			l.Add(h, testRecord(n, in, packets, packets*100))
			late := r.Uint64N(packets + 1)
			if packets > late {
				l.Add(h, testRecord(n, out, packets-late, (packets-late)*100))
			}
			inFlight[n] = late
		}
		b := l.Close(h)
		for i := range b.Flows {
			got.Add(b.Flows[i].Count)
			if b.Flows[i].Direction != flow.Ingress {
				t.Fatal("a forwarded flow is counted where it leaves")
			}
		}
		duplicate.Add(b.Duplicates[out])
		l.Reset(h)
		h = 1 - h
	}
	if got != want {
		t.Errorf("counted %v, sent %v", got, want)
	}
	for _, late := range inFlight {
		duplicate.Add(epoch.Count{Packets: late, Bytes: late * 100})
	}
	if duplicate != want {
		t.Errorf("duplicates %v, want %v", duplicate, want)
	}
}

// A better-ranked point counts, and when a flow leaves it for another point, that
// one takes over.
func TestPrimaryFollowsRankAndTraffic(t *testing.T) {
	const bridge, uplink = 2, 5
	l := newTestLedger(64)
	l.SetRank(bridge, 4)
	l.SetRank(uplink, 1)
	counted := func() uint64 {
		b := l.Close(0)
		l.Reset(0)
		var packets uint64
		for i := range b.Flows {
			packets += b.Flows[i].Packets
		}
		return packets
	}
	l.Add(0, testRecord(1, bridge, 3, 300))
	l.Add(0, testRecord(1, uplink, 4, 400))
	if got := counted(); got != 4 {
		t.Fatalf("counted %d packets, the uplink saw 4", got)
	}
	for i, want := range []uint64{0, 5} { // one epoch in which they may be late
		l.Add(0, testRecord(1, bridge, 5, 500))
		if got := counted(); got != want {
			t.Fatalf("epoch %d without the uplink: counted %d packets, want %d", i, got, want)
		}
	}
}

// Of a flow that had to be folded only the primary's count goes to the ladders.
func TestFoldedFlowCountsOnce(t *testing.T) {
	l := newTestLedger(tableWays)
	for n := range uint64(100) {
		l.Add(0, testRecord(n, 0, 1, 100+n))
		l.Add(0, testRecord(n, 3, 1, 100+n))
	}
	b := l.Close(0)
	var counted, duplicate epoch.Count
	for i := range b.Flows {
		counted.Add(b.Flows[i].Count)
	}
	e := epoch.Epoch{Ladders: b.Ladders}
	counted.Add(e.Folded(flow.Source))
	for _, c := range b.Duplicates {
		duplicate.Add(c)
	}
	if counted.Packets != 100 || duplicate.Packets != 100 {
		t.Errorf("counted %d packets and %d duplicates, want 100 each", counted.Packets, duplicate.Packets)
	}
}

// A router whose table has room for one flow in five, and whose memory of flows that
// left for as many: each packet is seen coming in and, later, going out. Without the
// memory 30 % of the bytes would count twice.
func TestForwardedFlowsCountOnceUnderPressure(t *testing.T) {
	const in, out, population = 2, 5, 5000
	r := rand.New(rand.NewPCG(11, 11))
	l := newTestLedger(population / 5)
	var sent, counted, duplicate, hidden epoch.Count
	var doubtful uint64
	var underway []*Record
	for i := range 40 {
		h := Half(i % 2)
		for range 4000 {
			record := testRecord(r.Uint64N(population), in, 1, 60+r.Uint64N(1000))
			sent.Add(record.Count)
			l.Add(h, record)
			leaving := *record
			leaving.Point = out
			underway = append(underway, &leaving)
			if j := r.IntN(len(underway)); len(underway) > 100 {
				l.Add(h, underway[j])
				underway[j] = underway[len(underway)-1]
				underway = underway[:len(underway)-1]
			}
		}
		b := l.Close(h)
		counted.Add(b.sum(flow.Source))
		hidden.Add(b.Hidden)
		doubtful += b.Doubtful.Bytes
		for j := range b.Flows {
			doubtful += b.Flows[j].Doubtful
		}
		for point, c := range b.Duplicates {
			counted.Sub(c)
			duplicate.Add(c)
			if point != in && point != out && c != (epoch.Count{}) {
				t.Fatalf("duplicates at point %d", point)
			}
		}
		l.Reset(h)
	}
	if ratio := float64(counted.Bytes) / float64(sent.Bytes); ratio < 0.98 || ratio > 1.08 {
		t.Errorf("counted %.3f of what was sent", ratio)
	}
	if counted.Bytes-doubtful > sent.Bytes || counted.Bytes+hidden.Bytes < sent.Bytes {
		t.Errorf("counted %d, %d doubtful and %d hidden, sent %d", counted.Bytes, doubtful, hidden.Bytes, sent.Bytes)
	}
	t.Logf("sent %v, counted %v, %d bytes doubtful, hidden %v", sent, counted, doubtful, hidden)
	want := sent
	for _, r := range underway {
		want.Sub(r.Count)
	}
	want.Add(sent)
	want.Sub(counted)
	if duplicate != want {
		t.Errorf("%v duplicates, want %v: all that was seen and isn't counted", duplicate, want)
	}
}
