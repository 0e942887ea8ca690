package store

import (
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// Hosts' clocks differ. Each poll says how far an exporter's is ahead, give or take
// half of the time that the messages were on their way (epoch.Exchange). Of the last
// polls the one with the least error counts, as in the clock filter of the Network
// Time Protocol (RFC 5905, section 10). An exchange that can't be true if the estimate
// is means that a clock was set: the estimate starts anew with it.
//
// Epochs are moved to the aggregator's time where the difference is certain and
// matters, and stay in order: one never starts before the one in front of it ends.

const (
	// maxDrift is by how much two clocks that nobody sets may drift apart: 500
	// millionths, which is as far as kernels let a clock be disciplined.
	maxDrift = 500e-6
	// leastSkew is from which difference on times are corrected.
	leastSkew = 50 * time.Millisecond
	// maxExchanges is how many polls are remembered.
	maxExchanges = 16
	// greatestOverlap is up to what length an epoch that begins too early is cut off.
	// Beyond it, something else is wrong with its time.
	greatestOverlap = 2 * time.Second
)

// Skew is how far an exporter's clock is ahead of the aggregator's, give or take Error.
type Skew struct{ Offset, Error time.Duration }

// skew is what is known of an exporter's clock.
type skew struct {
	exchanges []exchange // the last ones, oldest first
	applied   time.Duration
	end       time.Time // of the last epoch, corrected
	sequence  uint64    // of the last epoch
}

type exchange struct {
	at time.Time
	Skew
}

// exchanged takes the times of a poll.
func (k *skew) exchanged(x epoch.Exchange) {
	offset, delay := x.Offset()
	if delay < 0 {
		return // the clocks didn't run alike while it lasted
	}
	next := exchange{x.Answered, Skew{offset, delay/2 + time.Microsecond}}
	if now, known := k.estimate(next.at); known && (now.Offset-offset).Abs() > now.Error+next.Error {
		k.exchanges = k.exchanges[:0]
	}
	if len(k.exchanges) == maxExchanges {
		k.exchanges = append(k.exchanges[:0], k.exchanges[1:]...)
	}
	k.exchanges = append(k.exchanges, next)
}

// estimate returns the best that is known at a time.
func (k *skew) estimate(now time.Time) (best Skew, known bool) {
	for _, x := range k.exchanges {
		x.Error += time.Duration(float64(now.Sub(x.at).Abs()) * maxDrift)
		if !known || x.Error <= best.Error {
			best, known = x.Skew, true
		}
	}
	return best, known
}

// wanted is by how much times should be corrected.
func (k *skew) wanted() time.Duration {
	if len(k.exchanges) == 0 {
		return k.applied
	}
	now, _ := k.estimate(k.exchanges[len(k.exchanges)-1].at)
	if (now.Offset - k.applied).Abs() <= max(leastSkew, now.Error) {
		return k.applied
	}
	return now.Offset
}

// correct moves an epoch to the aggregator's time.
func (x *exporter) correct(e *epoch.Epoch) {
	k := &x.skew
	wanted := k.wanted()
	contiguous := e.Sequence == k.sequence+1 && !k.end.IsZero()
	// After a step of the clock the epochs that were waiting are still of before.
	before := contiguous && (wanted-k.applied).Abs() > greatestOverlap &&
		e.End.Add(-k.applied).Sub(k.end).Abs() < e.End.Add(-wanted).Sub(k.end).Abs()
	if !before {
		k.applied = wanted
	}
	e.Start, e.End = e.Start.Add(-k.applied), e.End.Add(-k.applied)
	if early := k.end.Sub(e.Start); contiguous && early > 0 && early < greatestOverlap {
		e.Start = k.end
		e.End = later(e.End, e.Start)
	}
	k.end, k.sequence = e.End, e.Sequence
}

// Exchanged takes the times of a poll of an exporter, of which it learns how far its
// clock is ahead.
func (s *Store) Exchanged(name string, x epoch.Exchange) {
	if !x.Known() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exporter(name).skew.exchanged(x)
}

// Skews returns how far each exporter's clock is ahead, of those that say.
func (s *Store) Skews() map[string]Skew {
	s.mu.Lock()
	defer s.mu.Unlock()
	skews := make(map[string]Skew)
	for _, x := range s.exporters {
		if estimate, known := x.skew.estimate(s.now()); known {
			skews[x.name] = estimate
		}
	}
	return skews
}
