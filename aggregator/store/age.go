package store

import (
	"slices"
	"time"
)

// coarse is the width in seconds of buckets beyond the fine ones.
const coarse = 10

// maintain brings the buckets to their age. It is called before everything that
// looks at them, and costs next to nothing where there is nothing to do.
func (s *Store) maintain(now time.Time) {
	s.mergeDue(now)
	for _, b := range s.buckets {
		if b.open && !now.Before(later(b.to(), b.opened).Add(s.configuration.Hold)) {
			s.close(b)
		}
	}
	s.coarsen(now)
	s.expire(now)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// close decides for good who counted what in a bucket.
func (s *Store) close(b *bucket) {
	if !b.open {
		return
	}
	s.merge(b)
	c := merged(s.bounds, s.read(b)...)
	s.closed.add(c)
	s.waiting -= b.bytes
	s.keepBorders(b)
	*b = bucket{start: b.start, width: b.width, content: c, merged: b.merged}
}

// coarsen puts the buckets of ten seconds together, once all of them are old enough
// and closed.
func (s *Store) coarsen(now time.Time) {
	fine := now.Add(-s.configuration.Fine).Unix() / coarse * coarse
	ripe := func(b *bucket) bool { return b.width < coarse && b.start < fine && !b.open }
	if !slices.ContainsFunc(s.buckets, ripe) {
		return
	}
	var kept []*bucket
	for rest := s.buckets; len(rest) > 0; {
		decade := sameSpan(rest, coarse)
		if slices.ContainsFunc(decade, func(b *bucket) bool { return !ripe(b) }) {
			kept = append(kept, decade...)
		} else {
			kept = append(kept, s.coarse(decade))
		}
		rest = rest[len(decade):]
	}
	s.buckets = kept
}

// coarse returns the span of some buckets, which is usually there already.
func (s *Store) coarse(decade []*bucket) *bucket {
	if span := s.spans.get(0, decade[0].start); span != nil {
		return span
	}
	span := sumOf(s.bounds, coarse, decade)
	s.spans.insert(0, span)
	return span
}

// expire forgets what is older than the retention.
func (s *Store) expire(now time.Time) {
	before := now.Add(-s.configuration.Retention)
	s.buckets = slices.DeleteFunc(s.buckets, func(b *bucket) bool { return !b.open && b.to().Before(before) })
	if now.Unix() == s.swept {
		return
	}
	s.swept = now.Unix()
	s.spans.expire(before)
	s.spans.build(s.bounds, s.buckets, now.Add(-s.configuration.Hold).Unix())
	for _, x := range s.exporters {
		x.forget(before)
	}
	s.transit.sweep(now.Add(-s.configuration.Hold - s.configuration.TransitExpiry).Unix())
}
