package main

import (
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/exporter/config"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/fold"
)

func TestGarbageIsLimitedUnlessAsked(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(200))
	for _, test := range []struct {
		environment string
		want        int
	}{{"70", 200}, {"", garbagePercent}} {
		t.Setenv("GOGC", test.environment)
		spareMemory(true)
		got := debug.SetGCPercent(200)
		if got != test.want {
			t.Errorf("GOGC=%q: %d %%, want %d %%", test.environment, got, test.want)
		}
	}
}

// flood feeds windows epochs of nothing but new flows, of which few have room.
type flood struct {
	ledger   *fold.Ledger
	random   *rand.Rand
	end      time.Time
	sequence uint64
}

func newFlood(t *testing.T) *flood {
	f := &flood{
		ledger: fold.NewLedger(fold.LedgerConfig{Entries: 5000, LadderEntries: 1024, SketchWidth: 8192, Points: 8}),
		random: rand.New(rand.NewPCG(1, 2)), end: time.Unix(1_700_000_000, 0),
	}
	t.Cleanup(f.ledger.Free)
	return f
}

// pass lets an epoch of some length pass, with so many flows.
func (f *flood) pass(w *windows, length time.Duration, flows int) {
	var total epoch.Count
	records := make([]fold.Record, flows)
	for i := range records {
		a, b := f.random.Uint64(), f.random.Uint64()
		r := fold.Record{Point: 2, Hash: f.random.Uint64(), Count: epoch.Count{Packets: 1, Bytes: 60 + a%1400}}
		r.Source = netip.AddrFrom4([4]byte{byte(a), byte(a >> 8), byte(a >> 16), byte(a >> 24)}).As16()
		r.Destination = netip.AddrFrom4([4]byte{byte(b), byte(b >> 8), byte(b >> 16), byte(b >> 24)}).As16()
		r.SourcePort, r.DestinationPort, r.Protocol = uint16(a>>32), uint16(b>>32), flow.ProtocolTCP
		records[i] = r
		total.Add(r.Count)
	}
	f.ledger.AddBatch(make([]fold.Half, flows), records)
	books := f.ledger.Close(0)
	f.sequence++
	e := &epoch.Epoch{
		Host: "host", Sequence: f.sequence, Start: f.end, End: f.end.Add(length),
		Devices: []epoch.Device{{Name: "eth0", Total: total}}, Flows: books.Flows, Ladders: books.Ladders,
		Sketches: books.Sketches, FoldedFlows: books.Folded, Doubtful: books.Doubtful, Hidden: books.Hidden, Pairs: books.Pairs,
	}
	w.sink(slog.New(slog.DiscardHandler))(e, time.Millisecond)
	f.end = e.End
	f.ledger.Reset(0)
}

// liveBytes is what is alive in the heap.
func liveBytes() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// windowsBar is what all windows may keep, 15 MiB of epochs among it. It is what the
// process's bar leaves besides the capture's budget, the program, the runtime and
// garbage: see docs/decisions/footprint.md.
const windowsBar = 45 << 20

// With every window full, and every epoch as large as it may be, the default
// configuration keeps no more than its bar.
func TestWindowsKeepTheirBar(t *testing.T) {
	o, err := config.Parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	f := newFlood(t)
	before := liveBytes()
	w := newWindows(&o.Config)
	for range 100 { // the longest window, of five minutes
		f.pass(w, 4*time.Second, 10_000)
	}
	for range 300 { // the history
		f.pass(w, 300*time.Millisecond, 10_000)
	}
	kept := liveBytes() - before
	epochs, bytes := w.history.Size()
	t.Logf("%.1f MiB, of which %.1f are %d epochs", float64(kept)/(1<<20), float64(bytes)/(1<<20), epochs)
	if most := int(o.Config.Epochs.Memory); bytes < most*3/4 || bytes > most {
		t.Errorf("%d bytes of epochs, want nearly %d", bytes, most)
	}
	if kept > windowsBar {
		t.Errorf("the windows keep %d bytes, want at most %d", kept, windowsBar)
	}
	runtime.KeepAlive(w)
}
