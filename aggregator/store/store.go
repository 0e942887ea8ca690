// Package store merges the epochs of a fleet's exporters into windows of time in
// which every packet counts once.
//
// Time is in buckets of one second, by the middle of the epochs; beyond some
// minutes of age in buckets of ten. A bucket stays open for a while, and who
// counts which flow is decided anew whenever that changes (see resolve.go). Then
// it closes, and is brought within its bounds by folding. What long windows need is
// summed up in advance (see spans.go). Everything that is kept is bounded by the
// Configuration.
package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/networks"
)

// ErrTime says that an epoch is too old or too far ahead to be kept.
var ErrTime = errors.New("the epoch's time is out of range")

// maxEpochLength bounds how long an epoch may be.
const maxEpochLength = time.Minute

// Store is safe for concurrent use.
type Store struct {
	configuration Configuration
	bounds        bounds
	now           func() time.Time

	mu        sync.Mutex
	exporters []*exporter // by id
	byName    map[string]*exporter
	claims    *claims
	transit   *transit
	key       keyCheck
	names     *namer
	peers     *peers
	buckets   []*bucket // by start
	borders   []held    // of closed buckets: see borders.go
	merged    mergedEpochs
	spans     spans // what buckets have together
	waiting   int   // bytes of the epochs of open buckets
	swept     int64 // when transit was swept last
	version   uint64
	closed    sums // of buckets that are closed
	shown     sums // what was returned last
	watchers  map[chan struct{}]struct{}
}

// New returns an empty store. now is the clock.
func New(configuration Configuration, now func() time.Time) *Store {
	s := &Store{
		configuration: configuration,
		bounds:        configuration.bounds(),
		now:           now,
		byName:        make(map[string]*exporter),
		claims:        newClaims(nil),
		names:         newNamer(networks.NewTable(nil)),
		peers:         newPeers(now()),
		closed:        newSums(),
		shown:         newSums(),
		watchers:      make(map[chan struct{}]struct{}),
	}
	s.transit = newTransit(int64(configuration.TransitExpiry/time.Second), configuration.MaxTransitFlows, s.passed)
	return s
}

// SetUp says whether an exporter answers. Its host then covers the present, and
// others leave its flows to it.
func (s *Store) SetUp(name string, up bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.exporter(name)
	if x.up == up {
		return
	}
	x.up = up
	s.unresolve(0)
	s.changed()
}

// Append merges an epoch, of which it keeps nothing, after it has corrected its times
// by what is known of its exporter's clock. An error is ErrTime, and nothing was merged
// then, or epoch.ErrSketches: all but some sketches was merged, which the error names.
func (s *Store) Append(name string, e *epoch.Epoch) error {
	now := s.now()
	sameKey, err := s.append(name, e, now)
	if sameKey {
		s.peers.add(e, now)
	}
	return err
}

// append merges an epoch, but for the sample of its pairs. sameKey says that the
// sketches, and so that, are of the fleet's key.
func (s *Store) append(name string, e *epoch.Epoch, now time.Time) (sameKey bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.maintain(now)
	x := s.exporter(name)
	x.correct(e)
	if err := s.check(e, now); err != nil {
		return false, err
	}
	s.learn(x, e)
	b := s.bucket(secondOf(e), now)
	r := s.resolution(b)
	s.observe(b, r, x, e, now.Unix())
	var refused error
	if b.open {
		refused = s.hold(b, r, x, e)
	} else {
		refused = s.addLate(b, r, x, e)
	}
	s.changed()
	return len(e.Sketches) > 0 && s.key.accept(&e.Sketches[0]), refused
}

// check refuses epochs that no bucket is kept for.
func (s *Store) check(e *epoch.Epoch, now time.Time) error {
	switch {
	case e.End.Before(now.Add(-s.configuration.Retention)):
		return fmt.Errorf("%w: it ended %v ago, %v are kept", ErrTime, now.Sub(e.End), s.configuration.Retention)
	case e.End.After(now.Add(s.configuration.Skew)):
		return fmt.Errorf("%w: it ends %v ahead, %v are allowed", ErrTime, e.End.Sub(now), s.configuration.Skew)
	case e.End.Sub(e.Start) > maxEpochLength:
		return fmt.Errorf("%w: it is %v long, %v are allowed", ErrTime, e.End.Sub(e.Start), maxEpochLength)
	}
	return nil
}

// exporter returns the exporter of a name, known or new.
func (s *Store) exporter(name string) *exporter {
	x := s.byName[name]
	if x == nil {
		x = &exporter{id: uint32(len(s.exporters)), name: name}
		s.exporters = append(s.exporters, x)
		s.byName[name] = x
	}
	return x
}

// learn takes what an epoch says about its host.
func (s *Store) learn(x *exporter, e *epoch.Epoch) {
	began := x.extend(e)
	x.below = e.Exporters
	if began {
		s.claims = newClaims(s.exporters)
	}
	if began || !x.up || e.Start.Sub(x.runs[len(x.runs)-1].from) < maxBorderEpoch {
		s.unresolve(0) // it covers more than it did, or has more at a border
	}
}

// bucket returns the bucket of a second, which may be new.
func (s *Store) bucket(second int64, now time.Time) *bucket {
	at, found := slices.BinarySearchFunc(s.buckets, second, func(b *bucket, second int64) int {
		switch {
		case b.start > second:
			return 1
		case b.start+b.width <= second:
			return -1
		}
		return 0
	})
	if !found {
		s.buckets = slices.Insert(s.buckets, at, newBucket(second, now))
		s.spans.forget(second)
	}
	return s.buckets[at]
}

// observe tells transit of the flows that no covering host claims.
func (s *Store) observe(b *bucket, r *resolution, x *exporter, e *epoch.Epoch, now int64) {
	for i := range e.Flows {
		key := &e.Flows[i].Key
		if r.claimed(x, spanOf(e), key).settled {
			continue
		}
		if since, changed := s.transit.observe(key, x.id, b.start, now); changed {
			s.unresolve(since)
		}
		if _, unknown := b.first[*key]; unknown {
			s.unresolve(b.start) // it may be known now
		}
	}
}

// passed says that an exporter has been read beyond a second, or is down.
func (s *Store) passed(exporter uint32, second int64) bool {
	x := s.exporters[exporter]
	return !x.up || x.readUntil().Unix() > second
}

// hold adds an epoch to an open bucket.
func (s *Store) hold(b *bucket, r *resolution, x *exporter, e *epoch.Epoch) error {
	refused := s.accept(x, e, b.distinct)
	s.waiting += b.hold(r, x, e)
	s.merged.notice(b, e)
	if b.fresh != nil && len(b.fresh.flows) > maxFresh {
		b.compactFresh(s.bounds)
	}
	for i := 0; s.waiting > s.configuration.openBytes() && i < len(s.buckets); i++ {
		s.close(s.buckets[i])
	}
	return refused
}

// addLate adds an epoch to a closed bucket.
func (s *Store) addLate(b *bucket, r *resolution, x *exporter, e *epoch.Epoch) error {
	late := r.late(b.content, x, e)
	s.merged.notice(b, e)
	refused := s.accept(x, e, late.distinct)
	s.closed.add(late)
	late.compact(s.bounds)
	b.content = merged(s.bounds, b.content, late)
	s.spans.add(s.bounds, b, late)
	return refused
}

// accept merges an epoch's sketches, those of the fleet's key, and names the others.
func (s *Store) accept(x *exporter, e *epoch.Epoch, into distinct) error {
	var refused []string
	var key uint64
	for i := range e.Sketches {
		sketch := &e.Sketches[i]
		if s.key.accept(sketch) {
			into.add(sketch.Of, sketch.HLL)
			continue
		}
		refused, key = append(refused, sketch.Of), sketch.KeyFingerprint
	}
	if len(refused) == 0 {
		return nil
	}
	x.refused += uint64(len(refused))
	return fmt.Errorf("%w: those of %.100s are under key %016x, the fleet's is %016x",
		epoch.ErrSketches, strings.Join(refused, ", "), key, s.key.fingerprint)
}

// resolution prepares to decide who counts what in a bucket.
func (s *Store) resolution(b *bucket) *resolution {
	first := b.first
	if first == nil { // it is closed
		first = make(map[flow.Key]uint32)
	}
	return &resolution{
		store: s, claims: s.claims, transit: s.transit, names: s.names, second: b.start,
		first: first, borders: make(map[*exporter][]neighbour),
	}
}

// unresolve has open buckets from a second on resolved anew.
func (s *Store) unresolve(since int64) {
	for _, b := range s.buckets {
		if b.open && b.start >= since {
			b.unresolve()
		}
	}
}

// read returns what a bucket holds. It doesn't change any more.
func (s *Store) read(b *bucket) []*content {
	if b.open {
		return b.read(s.resolution(b), s.bounds)
	}
	return []*content{b.content}
}

// changed tells watchers. One that hasn't looked since the last time will see
// this change then.
func (s *Store) changed() {
	s.version++
	for watcher := range s.watchers {
		select {
		case watcher <- struct{}{}:
		default:
		}
	}
}

// Watch returns a channel that gets a value after the store has changed, however
// often it has. stop ends it.
func (s *Store) Watch() (changes <-chan struct{}, stop func()) {
	watcher := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers[watcher] = struct{}{}
	return watcher, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, watcher)
	}
}

// Version is another number after each change.
func (s *Store) Version() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

// RefusedSketches returns how many sketches of each exporter weren't of the
// fleet's key.
func (s *Store) RefusedSketches() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	refused := make(map[string]uint64, len(s.exporters))
	for _, x := range s.exporters {
		refused[x.name] = x.refused
	}
	return refused
}

// Exporters returns the names of all exporters there were.
func (s *Store) Exporters() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, len(s.exporters))
	for i, x := range s.exporters {
		names[i] = x.name
	}
	return names
}

// Levels returns those of the trees of all windows.
func (s *Store) Levels() hhh.Levels { return s.configuration.Levels }
