package store

import (
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// bucket is the epochs whose middle is in a span of time. While it is open it keeps
// them as they came; closed, it has its content only.
type bucket struct {
	start, width int64     // seconds; start since 1970
	opened       time.Time // when the first epoch came in
	epochs       []held
	records      int // flows and prefixes in epochs
	distinct     distinct
	newest       time.Time
	open         bool
	merged       bool     // handed on as an epoch, or too late for that
	content      *content // nil while an open bucket has to be resolved anew
}

// held is an epoch and who sent it.
type held struct {
	exporter *exporter
	epoch    *epoch.Epoch
}

func newBucket(second int64, now time.Time) *bucket {
	return &bucket{start: second, width: 1, opened: now, open: true, distinct: make(distinct)}
}

func (b *bucket) from() time.Time { return time.Unix(b.start, 0) }
func (b *bucket) to() time.Time   { return time.Unix(b.start+b.width, 0) }

// hold adds an epoch to an open bucket.
func (b *bucket) hold(x *exporter, e *epoch.Epoch) {
	kept := *e
	kept.Sketches = nil // they are in distinct, 16 KiB each
	kept.SampledPairs = nil
	b.epochs = append(b.epochs, held{x, &kept})
	b.records += records(e)
	if e.End.After(b.newest) {
		b.newest = e.End
	}
	b.content = nil
}

// records is how many flows and prefixes an epoch holds.
func records(e *epoch.Epoch) int {
	n := len(e.Flows)
	for i := range e.Ladders {
		n += len(e.Ladders[i].Entries)
	}
	return n
}

// secondOf returns the second of an epoch: that in which its middle was. Epochs end
// shortly after a full second, so that by their ends they would be in the next one.
func secondOf(e *epoch.Epoch) int64 { return e.Start.Add(e.End.Sub(e.Start) / 2).Unix() }
