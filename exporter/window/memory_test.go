package window

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// heap is what is in use.
func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// The windows of distinct things, entropies and peers keep their memory in a flood of
// anything to anything.
func TestMemoryIsBounded(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	y, h := newEntropies(t, 20_000), newHost(t, 20_000, 20)
	y.cardinality, y.Entropy, h.peers = nil, nil, nil
	before := heap()
	c, e, p := NewCardinality(), NewEntropy(), NewPeers(20)
	y.cardinality, y.Entropy, h.peers = c, e, p
	for i := range 20 {
		y.end = start.Add(time.Duration(i) * 16 * time.Second)
		records := flood(r, address(20, uint32(i)), 10_000)
		for range 10_000 {
			records = append(records, record(address(30, r.Uint32()), address(31, r.Uint32()), 1))
		}
		y.see(records)
		h.see(records...)
		e.Ratios(c.Estimates())
	}
	grown := heap() - before
	t.Logf("%.2f MiB", float64(grown)/(1<<20))
	if grown > 10<<20 {
		t.Errorf("%.2f MiB", float64(grown)/(1<<20))
	}
	if n := len(c.Estimates()); n != 4*len(Cardinalities) {
		t.Errorf("%d estimates", n)
	}
	runtime.KeepAlive([]any{c, e, p})
}
