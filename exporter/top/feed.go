package top

import (
	"context"
	"net/http"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/poll"
)

const (
	// pollTimeout is how long an exporter may take for an answer; it is asked to wait
	// half of it for an epoch.
	pollTimeout = 10 * time.Second
	// pollInterval is how far apart polls are of an exporter that answers at once.
	pollInterval = 50 * time.Millisecond
)

// feed reads the epochs of one exporter, one poll after the other. It isn't safe
// for concurrent use.
type feed struct {
	reader   *poll.Reader
	client   *http.Client
	address  string // of the epochs
	at       poll.Position
	failures int // in a row
	last     time.Time
}

// polled is what one poll came to.
type polled struct {
	epochs []*epoch.Epoch // oldest first
	missed uint64         // gone from the exporter before they were read
	behind bool           // there are more at once
	err    error
}

// next waits as long as it should and polls. The first polls bring what the exporter
// still holds, so that all windows are full from the beginning.
func (f *feed) next(ctx context.Context) polled {
	wait := pollInterval - time.Since(f.last)
	if f.failures > 0 {
		wait = poll.DefaultBackoff.After(f.failures)
	}
	poll.Sleep(ctx, wait)
	f.last = time.Now()
	batch, _, err := f.reader.Poll(ctx, f.client, f.address, pollTimeout, f.at)
	p := polled{}
	if err == nil {
		p.epochs, p.missed, err = f.at.Newer(batch)
	}
	if err != nil {
		f.failures++
		return polled{err: err}
	}
	f.failures = 0
	if n := len(p.epochs); n > 0 {
		p.behind = p.epochs[n-1].Sequence < batch.Newest
	}
	return p
}
