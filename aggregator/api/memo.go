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
	state
	window   func() *store.Window
	trees    [len(flow.Dimensions)]func() *hhh.Tree
	distinct func() map[string]float64
	networks func() []store.NetworkTraffic
}

// state is a version of the store, and when.
type state struct {
	version uint64
	time    time.Time
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

// A window of at least longWindow may be behind by a staleShare of its length: an hour
// by 6 seconds. Whoever asks for an hour every second doesn't have it made anew each
// time for a difference that nobody sees; to is when it really ends.
const longWindow, staleShare = 10 * time.Minute, 600

// current says that a snapshot of so much time needn't be made anew.
func (s *snapshot) current(length time.Duration, now state) bool {
	age := now.time.Sub(s.time)
	stale := length >= longWindow && age >= 0 && age < length/staleShare
	return stale || s.version == now.version && s.time.Unix() == now.time.Unix()
}

// memo keeps the latest snapshot of each length, step and filter, so that many streams
// and requests of the same second, or of a small share of the length, cost one
// computation.
type memo struct {
	store *store.Store
	now   func() time.Time

	mu        sync.Mutex
	snapshots map[snapshotKey]*snapshot
}

type snapshotKey struct {
	length, step time.Duration
	filter       string // its key
}

func newMemo(s *store.Store, now func() time.Time) *memo {
	return &memo{store: s, now: now, snapshots: make(map[snapshotKey]*snapshot)}
}

// last returns the snapshot of the last so much time, for a series if step isn't 0. That
// of a filter is as old as that of all.
func (m *memo) last(length, step time.Duration, f filter) *snapshot {
	now := state{m.store.Version(), m.now()}
	all := m.keep(snapshotKey{length, step, ""}, now, func() *store.Window { return m.store.LastInSteps(length, step) })
	if f.key == "" {
		return all
	}
	return m.keep(snapshotKey{length, step, f.key}, all.state, func() *store.Window { return all.window().Filter(f.Filter) })
}

// keep returns the snapshot of a key, which it makes if there is none that is current.
func (m *memo) keep(key snapshotKey, now state, window func() *store.Window) *snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	snap := m.snapshots[key]
	if snap != nil && snap.current(key.length, now) {
		return snap
	}
	if snap == nil {
		m.makeRoom(now)
	}
	snap = newSnapshot(window)
	snap.state = now
	m.snapshots[key] = snap
	return snap
}

// makeRoom forgets snapshots of the past, and if there still are too many all but those
// that others are made of.
func (m *memo) makeRoom(now state) {
	for _, old := range []func(snapshotKey, *snapshot) bool{
		func(key snapshotKey, s *snapshot) bool { return !s.current(key.length, now) },
		func(key snapshotKey, _ *snapshot) bool { return key.filter != "" },
		func(snapshotKey, *snapshot) bool { return true },
	} {
		if len(m.snapshots) >= maxSnapshots {
			maps.DeleteFunc(m.snapshots, old)
		}
	}
}

// between returns a snapshot of another time, which isn't kept.
func (m *memo) between(from, to time.Time, step time.Duration, f filter) *snapshot {
	return newSnapshot(func() *store.Window { return m.store.BetweenInSteps(from, to, step).Filter(f.Filter) })
}
