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
	made     time.Time
	window   func() *store.Window
	trees    [len(flow.Dimensions)]func() *hhh.Tree
	distinct func() map[string]float64
}

func newSnapshot(s *store.Store, length time.Duration, version uint64, made time.Time) *snapshot {
	snap := &snapshot{version: version, made: made}
	snap.window = sync.OnceValue(func() *store.Window { return s.Last(length) })
	for _, d := range flow.Dimensions {
		snap.trees[d] = sync.OnceValue(func() *hhh.Tree { return snap.window().Tree(d) })
	}
	snap.distinct = sync.OnceValue(func() map[string]float64 { return snap.window().Distinct() })
	return snap
}

// maxSnapshots bounds the memory for windows of lengths that clients make up.
const maxSnapshots = 32

// A window of at least longWindow may be behind by a staleShare of its length: an hour
// by 6 seconds. Whoever asks for an hour every second doesn't have it made anew each
// time for a difference that nobody sees; to is when it really ends.
const longWindow, staleShare = 10 * time.Minute, 600

// current says that a snapshot of so much time needn't be made anew.
func (s *snapshot) current(length time.Duration, version uint64, now time.Time) bool {
	age := now.Sub(s.made)
	stale := length >= longWindow && age >= 0 && age < length/staleShare
	return stale || s.version == version && s.made.Unix() == now.Unix()
}

// memo keeps the latest snapshot of each length, so that many streams and
// requests of the same second, or of a small share of it, cost one computation.
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
	version, now := m.store.Version(), m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	snap := m.snapshots[length]
	if snap != nil && snap.current(length, version, now) {
		return snap
	}
	if snap == nil && len(m.snapshots) >= maxSnapshots {
		clear(m.snapshots)
	}
	snap = newSnapshot(m.store, length, version, now)
	m.snapshots[length] = snap
	return snap
}

// between returns a snapshot of another time, which isn't kept.
func (m *memo) between(from, to time.Time) *snapshot {
	snap := newSnapshot(m.store, 0, 0, time.Time{})
	snap.window = sync.OnceValue(func() *store.Window { return m.store.Between(from, to) })
	return snap
}
