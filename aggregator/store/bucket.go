package store

import (
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// bucket is the epochs whose middle is in a span of time. While it is open it keeps
// them, in case that who counts what has to be decided anew; closed, it has its
// content only.
type bucket struct {
	start, width int64 // seconds; start since 1970
	open         bool
	merged       bool     // handed on as an epoch, or too late for that
	content      *content // once it is closed

	opened   time.Time // when the first epoch came in
	epochs   []held
	bytes    int // that epochs take
	distinct distinct
	resolved int // how many of the epochs are in fresh and in compact
	first    map[flow.Key]uint32
	fresh    *content
	compact  []*content
	sketches *content // distinct as it was read last; nil if it has changed
}

const (
	// maxFresh is how many flows wait for being made compact: 160 bytes each.
	maxFresh = 32 << 10
	// maxCompact is from how many compact contents on they are merged.
	maxCompact = 8
)

func newBucket(second int64, now time.Time) *bucket {
	return &bucket{
		start: second, width: 1, opened: now, open: true,
		distinct: make(distinct), first: make(map[flow.Key]uint32),
	}
}

func (b *bucket) from() time.Time { return time.Unix(b.start, 0) }
func (b *bucket) to() time.Time   { return time.Unix(b.start+b.width, 0) }

// hold adds an epoch to an open bucket and returns how much memory it takes.
func (b *bucket) hold(r *resolution, x *exporter, e *epoch.Epoch) (bytes int) {
	if b.resolved == len(b.epochs) {
		b.resolve(r, x, e)
	}
	h := newHeld(x, e)
	b.epochs = append(b.epochs, h)
	b.sketches = nil
	b.bytes += h.bytes()
	return h.bytes()
}

// resolve counts the next epoch.
func (b *bucket) resolve(r *resolution, x *exporter, e *epoch.Epoch) {
	if b.fresh == nil {
		b.fresh = &content{}
		b.fresh.setNames(r.names)
	}
	b.fresh.newest = later(b.fresh.newest, e.End)
	r.add(b.fresh, x, e)
	b.resolved++
}

// unresolve has all epochs counted anew when the bucket is read.
func (b *bucket) unresolve() {
	b.resolved, b.fresh, b.compact = 0, nil, nil
	clear(b.first)
}

// compactFresh makes what was counted since the last time compact.
func (b *bucket) compactFresh(within bounds) {
	if b.fresh == nil {
		return
	}
	b.fresh.compact(within)
	b.compact = append(b.compact, b.fresh)
	b.fresh = nil
	if len(b.compact) == maxCompact {
		b.compact = []*content{merged(within, b.compact...)}
	}
}

// read returns the contents of an open bucket, which don't change any more.
func (b *bucket) read(r *resolution, within bounds) []*content {
	for b.resolved < len(b.epochs) {
		h := &b.epochs[b.resolved]
		b.resolve(r, h.exporter, h.unpack())
		if len(b.fresh.flows) > maxFresh {
			b.compactFresh(within)
		}
	}
	b.compactFresh(within)
	if b.sketches == nil {
		b.sketches = &content{packed: packed{distinct: b.distinct.pack(within.bytes / 2)}}
		b.sketches.setMatrix(nil)
	}
	return append([]*content{b.sketches}, b.compact...)
}

// secondOf returns the second of an epoch: that in which its middle was. Epochs end
// shortly after a full second, so that by their ends they would be in the next one.
func secondOf(e *epoch.Epoch) int64 { return e.Start.Add(e.End.Sub(e.Start) / 2).Unix() }
