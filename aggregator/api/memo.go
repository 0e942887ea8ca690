package api

import (
	"maps"
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

// newSnapshot returns a snapshot of a window that is computed on first need.
func newSnapshot(window func() *store.Window) *snapshot {
	snap := &snapshot{window: sync.OnceValue(window)}
	for _, d := range flow.Dimensions {
		snap.trees[d] = sync.OnceValue(func() *hhh.Tree { return snap.window().Tree(d) })
	}
	snap.networks = sync.OnceValue(func() []store.NetworkTraffic { return snap.window().Networks() })
	snap.distinct = sync.OnceValue(func() map[string]float64 { return snap.window().Distinct() })
	return snap
}

// maxSnapshots bounds the memory for windows of lengths that clients make up.
const maxSnapshots = 32

// memo keeps the latest snapshot of each length and filter, so that many streams and
// requests of the same second cost one computation.
type memo struct {
	store *store.Store
	now   func() time.Time

	mu        sync.Mutex
	snapshots map[snapshotKey]*snapshot
}

type snapshotKey struct {
	length time.Duration
	filter string // its key
}

func newMemo(s *store.Store, now func() time.Time) *memo {
	return &memo{store: s, now: now, snapshots: make(map[snapshotKey]*snapshot)}
}

// last returns the snapshot of the last so much time.
func (m *memo) last(length time.Duration, f filter) *snapshot {
	if f.key == "" {
		return m.keep(snapshotKey{length: length}, func() *store.Window { return m.store.Last(length) })
	}
	return m.keep(snapshotKey{length, f.key}, func() *store.Window {
		return m.last(length, filter{}).window().Filter(f.Filter)
	})
}

// keep returns the snapshot of a key, which it makes if there is none of this version
// of the store and this second.
func (m *memo) keep(key snapshotKey, window func() *store.Window) *snapshot {
	version, second := m.store.Version(), m.now().Unix()
	m.mu.Lock()
	defer m.mu.Unlock()
	snap := m.snapshots[key]
	if snap != nil && snap.version == version && snap.second == second {
		return snap
	}
	if snap == nil {
		m.makeRoom(version, second)
	}
	snap = newSnapshot(window)
	snap.version, snap.second = version, second
	m.snapshots[key] = snap
	return snap
}

// makeRoom forgets snapshots of the past, and if there still are too many all but those
// that others are made of.
func (m *memo) makeRoom(version uint64, second int64) {
	for _, old := range []func(snapshotKey, *snapshot) bool{
		func(_ snapshotKey, s *snapshot) bool { return s.version != version || s.second != second },
		func(key snapshotKey, _ *snapshot) bool { return key.filter != "" },
		func(snapshotKey, *snapshot) bool { return true },
	} {
		if len(m.snapshots) >= maxSnapshots {
			maps.DeleteFunc(m.snapshots, old)
		}
	}
}

// between returns a snapshot of another time, which isn't kept.
func (m *memo) between(from, to time.Time, f filter) *snapshot {
	return newSnapshot(func() *store.Window { return m.store.Between(from, to).Filter(f.Filter) })
}
