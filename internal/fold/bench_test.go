package fold

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// benchLedger is of the size of an exporter's with the default budget.
func benchLedger(b *testing.B) *Ledger {
	l := NewLedger(LedgerConfig{Entries: 270_000, LadderEntries: 1024, SketchWidth: 1 << 14, Points: 64})
	b.Cleanup(l.Free)
	return l
}

// randomRecord is of a flow that nobody saw before, from anywhere to anywhere.
func randomRecord(r *rand.Rand) Record {
	a, p := r.Uint64(), r.Uint64()
	return Record{
		Key: flow.Key{
			Source:      netip.AddrFrom4([4]byte{byte(a), byte(a >> 8), byte(a >> 16), byte(a >> 24)}).As16(),
			Destination: netip.AddrFrom4([4]byte{byte(a >> 32), byte(a >> 40), byte(a >> 48), byte(a >> 56)}).As16(),
			SourcePort:  uint16(p), DestinationPort: 443, Protocol: flow.ProtocolTCP,
		},
		Point: 2, Hash: r.Uint64(), Count: epoch.Count{Packets: 1, Bytes: 60},
	}
}

// benchmarkEpochs measures epochs of so many records each, all of new flows, their
// ends included.
func benchmarkEpochs(b *testing.B, perEpoch int) {
	l := benchLedger(b)
	r := rand.New(rand.NewPCG(1, 1))
	records := make([]Record, 1<<20)
	for i := range records {
		records[i] = randomRecord(r)
	}
	next, h := 0, Half(0)
	b.ReportAllocs()
	began := cpuTime(b)
	for b.Loop() {
		halves := make([]Half, 32)
		for i := range halves {
			halves[i] = h
		}
		for range perEpoch / 32 {
			l.AddBatch(halves, records[next:next+32])
			next = (next + 32) % len(records)
		}
		l.Close(h)
		l.Reset(h)
		h = 1 - h
	}
	b.ReportMetric(float64(cpuTime(b)-began)/float64(b.N)/float64(perEpoch), "cpu-ns/record")
}

// cpuTime is the process's so far: unlike the time that passes it doesn't depend
// much on what else the machine does.
func cpuTime(b *testing.B) time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func BenchmarkEpoch(b *testing.B) {
	b.Run("83000 new flows", func(b *testing.B) { benchmarkEpochs(b, 83_000) })
	b.Run("250000 new flows", func(b *testing.B) { benchmarkEpochs(b, 250_000) })
	b.Run("1000000 new flows, most of them folding", func(b *testing.B) { benchmarkEpochs(b, 1_000_000) })
}
