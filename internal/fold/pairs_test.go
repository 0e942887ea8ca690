package fold

import (
	"reflect"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/siphash"
	"github.com/traffic-monitor-agent/tma/internal/sketch/pairs"
)

// Hosts with the same key sample the same pairs, so that a pair that two of them see is
// one pair of the fleet; hosts with other keys don't.
func TestHostsSampleTheSamePairs(t *testing.T) {
	sampled := func(key byte) *pairs.Thinned {
		l := NewLedger(LedgerConfig{Entries: 1000, LadderEntries: 8, SketchWidth: 64, Points: 2, Key: siphash.NewKey([siphash.KeyLen]byte{key})})
		defer l.Free()
		for i := range 40_000 {
			r := Record{Point: 1, Hash: uint64(i) * 0x9e3779b97f4a7c15}
			r.Source[14], r.Source[15], r.Packets, r.Bytes = byte(i>>8), byte(i), 1, 64
			l.Add(0, &r)
		}
		return l.Close(0).Pairs.Thin(256, func(*pairs.Pair) bool { return false })
	}
	a, b, other := sampled(1), sampled(1), sampled(2)
	if a.Level == 0 && len(a.Crowded) == 0 || !reflect.DeepEqual(a, b) {
		t.Errorf("%d and %d pairs of the same differ", len(a.Pairs), len(b.Pairs))
	}
	if reflect.DeepEqual(a, other) {
		t.Error("another key samples the same pairs")
	}
}
