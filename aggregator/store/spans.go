package store

import (
	"math"
	"slices"
	"time"
)

// Windows over an hour would have to add up hundreds of buckets. So what whole
// spans of ten seconds, a minute and ten minutes hold together is kept, too, once
// all their buckets are closed. The longer ones may keep more.

// width is the length of a span in seconds.
type width int

var widths = [...]width{coarse, 60, 600}

// shares is how many times as much as a bucket a span may keep.
func (w width) shares() int {
	switch {
	case w <= coarse:
		return 1
	case w <= 60:
		return 2
	}
	return 4
}

// spans holds closed buckets of each of the widths, by start.
type spans [len(widths)][]*bucket

// find looks for the span of a level that a second is in.
func (s *spans) find(level int, second int64) (at int, found bool) {
	start := second / int64(widths[level]) * int64(widths[level])
	return slices.BinarySearchFunc(s[level], start, func(b *bucket, start int64) int { return int(b.start - start) })
}

// get returns the span of a level that a second is in, nil if there is none.
func (s *spans) get(level int, second int64) *bucket {
	if at, found := s.find(level, second); found {
		return s[level][at]
	}
	return nil
}

// longest returns the longest span that a second is in which is within two times and,
// whatever multiples of the step those begin at, within one step. 0 is any.
func (s *spans) longest(second int64, from, to time.Time, step time.Duration) *bucket {
	for level := len(widths) - 1; level >= 0; level-- {
		if step%(time.Duration(widths[level])*time.Second) != 0 {
			continue
		}
		b := s.get(level, second)
		if b != nil && !b.from().Before(from) && !b.to().After(to) {
			return b
		}
	}
	return nil
}

// forget drops what includes a second in which there is something new.
func (s *spans) forget(second int64) {
	for level := range s {
		if at, found := s.find(level, second); found {
			s[level] = slices.Delete(s[level], at, at+1)
		}
	}
}

// add adds what came late for a bucket.
func (s *spans) add(within bounds, b *bucket, late *content) {
	for level, width := range widths {
		if span := s.get(level, b.start); span != nil && span != b {
			span.content = merged(within.times(width.shares()), span.content, late)
		}
	}
}

// expire drops what begins before a time.
func (s *spans) expire(before time.Time) {
	for level := range s {
		s[level] = slices.DeleteFunc(s[level], func(b *bucket) bool { return b.to().Before(before) })
	}
}

// build makes a span of each width, if there is one to make: one at a time, so that
// nobody waits for long. buckets are all there are; new ones only come until a second.
func (s *spans) build(within bounds, buckets []*bucket, until int64) {
	complete := until // the level below is, up to here
	for level, parts := 0, buckets; level < len(widths); level, parts = level+1, s[level] {
		if group := s.due(level, parts, complete); len(group) > 0 {
			s.insert(level, sumOf(within, widths[level], group))
		}
		complete = min(complete, s.firstMissing(level, parts))
	}
}

// due returns the parts of the first span of a level that isn't there and is over
// before a second.
func (s *spans) due(level int, parts []*bucket, until int64) []*bucket {
	for len(parts) > 0 {
		group := sameSpan(parts, widths[level])
		parts = parts[len(group):]
		start := group[0].start / int64(widths[level]) * int64(widths[level])
		if start+int64(widths[level]) > until {
			return nil
		}
		if s.get(level, start) == nil && !slices.ContainsFunc(group, func(b *bucket) bool { return b.open }) {
			return group
		}
	}
	return nil
}

// firstMissing returns the start of the first span of a level that isn't there.
func (s *spans) firstMissing(level int, parts []*bucket) int64 {
	for _, b := range parts {
		if s.get(level, b.start) == nil {
			return b.start / int64(widths[level]) * int64(widths[level])
		}
	}
	return math.MaxInt64
}

func (s *spans) insert(level int, span *bucket) {
	if at, found := s.find(level, span.start); !found {
		s[level] = slices.Insert(s[level], at, span)
	}
}

// sameSpan returns the first of some buckets that share a span.
func sameSpan(buckets []*bucket, w width) []*bucket {
	for i, b := range buckets {
		if b.start/int64(w) != buckets[0].start/int64(w) {
			return buckets[:i]
		}
	}
	return buckets
}

// sumOf makes one bucket of closed ones that share a span.
func sumOf(within bounds, w width, parts []*bucket) *bucket {
	contents := make([]*content, len(parts))
	for i, b := range parts {
		contents[i] = b.content
	}
	return &bucket{
		start: parts[0].start / int64(w) * int64(w), width: int64(w), merged: parts[0].merged,
		content: merged(within.times(w.shares()), contents...),
	}
}
