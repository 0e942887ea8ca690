package api

import (
	"sync"
	"time"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/aggregator/store"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// snapshot is a window until now and what was computed from it, each on first
// need and once for all who ask. It is safe for concurrent use.
type snapshot struct {
	version  uint64
	second   int64
	window   func() *store.Window
	trees    [len(flow.Dimensions)]func() *hhh.Tree
	distinct func() map[string]float64
	networks func() []store.NetworkTraffic
}

func newSnapshot(s *store.Store, length time.Duration, version uint64, second int64) *snapshot {
	snap := &snapshot{version: version, second: second}
	snap.window = sync.OnceValue(func() *store.Window { return s.Last(length) })
	for _, d := range flow.Dimensions {
		snap.trees[d] = sync.OnceValue(func() *hhh.Tree { return snap.window().Tree(d) })
	}
	snap.networks = sync.OnceValue(func() []store.NetworkTraffic { return snap.window().Networks() })
	snap.distinct = sync.OnceValue(func() map[string]float64 { return snap.window().Distinct() })
	return snap
}

// maxSnapshots bounds the memory for windows of lengths that clients make up.
const maxSnapshots = 32

// memo keeps the latest snapshot of each length, so that many streams and
// requests of the same second cost one computation.
type memo struct {
	store *store.Store
	now   func() time.Time

	mu        sync.Mutex
	snapshots map[time.Duration]*snapshot
}

func newMemo(s *store.Store, now func() time.Time) *memo {
	return &memo{store: s, now: now, snapshots: make(map[time.Duration]*snapshot)}
}

// last returns the snapshot of the last so much time.
func (m *memo) last(length time.Duration) *snapshot {
	version, second := m.store.Version(), m.now().Unix()
	m.mu.Lock()
	defer m.mu.Unlock()
	snap := m.snapshots[length]
	if snap != nil && snap.version == version && snap.second == second {
		return snap
	}
	if snap == nil && len(m.snapshots) >= maxSnapshots {
		clear(m.snapshots)
	}
	snap = newSnapshot(m.store, length, version, second)
	m.snapshots[length] = snap
	return snap
}

// between returns a snapshot of another time, which isn't kept.
func (m *memo) between(from, to time.Time) *snapshot {
	snap := newSnapshot(m.store, 0, 0, 0)
	snap.window = sync.OnceValue(func() *store.Window { return m.store.Between(from, to) })
	return snap
}
