package poll

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is how far apart polls are after failures in a row, doubling from Least
// to Greatest, less up to half of it at random, so that a fleet's exporters aren't
// asked in step.
type Backoff struct{ Least, Greatest time.Duration }

// DefaultBackoff notices an exporter's return within three seconds.
var DefaultBackoff = Backoff{Least: 200 * time.Millisecond, Greatest: 3 * time.Second}

// After returns how long to wait after so many failures in a row.
func (b Backoff) After(failures int) time.Duration {
	longest := b.Greatest
	if shift := failures - 1; shift < 16 {
		longest = min(longest, b.Least<<shift)
	}
	return longest - rand.N(longest/2+1)
}

// Sleep waits, or until the context ends.
func Sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
