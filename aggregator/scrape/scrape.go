// Package scrape reads the epochs of exporters by long polls, each target on its
// own, so that none delays another.
package scrape

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/poll"
)

// Sink takes what is scraped. Its methods are called concurrently, but those for
// one exporter never.
type Sink interface {
	// Exchanged takes the times of a successful poll, before its epochs.
	Exchanged(exporter string, x epoch.Exchange)
	// Append takes an epoch, oldest first. It corrects the epoch's times.
	Append(exporter string, e *epoch.Epoch) error
	// SetUp says whether the last poll of an exporter succeeded. It is called with
	// false, and nothing comes after that, when an exporter isn't scraped any more.
	SetUp(exporter string, up bool)
}

// Configuration is how often targets are polled.
type Configuration struct {
	// The first polls of targets that are new together are spread over this.
	Spread time.Duration
	// A target that answers at once is polled about this often.
	Interval time.Duration
	// How far apart polls are after failures.
	Backoff poll.Backoff
	// The same for a target whose answers are no use, which cost more than none.
	UselessBackoff poll.Backoff
}

// DefaultConfiguration notices an exporter's return within three seconds, and that
// something else has become an exporter within thirty.
func DefaultConfiguration() Configuration {
	return Configuration{
		Spread:         500 * time.Millisecond,
		Interval:       50 * time.Millisecond,
		Backoff:        poll.DefaultBackoff,
		UselessBackoff: poll.Backoff{Least: poll.DefaultBackoff.Least, Greatest: 30 * time.Second},
	}
}

// Scraper polls targets, which may change while it runs.
type Scraper struct {
	configuration Configuration
	sink          Sink
	logger        *slog.Logger
	reader        *poll.Reader

	mu        sync.Mutex
	ctx       context.Context // of Run; nil before
	followers []*follower     // in the order of Apply
}

// follower polls one target.
type follower struct {
	state
	name   string
	cancel context.CancelFunc
	done   chan struct{} // closed at the end; nil before the start
}

// New returns a scraper that does nothing before Run.
func New(configuration Configuration, sink Sink, logger *slog.Logger) *Scraper {
	return &Scraper{configuration: configuration, sink: sink, logger: logger, reader: poll.NewReader()}
}

// Apply replaces the targets, whose names have to be different. One that was there
// under its name goes on where it was, from the next poll on with what changed.
func (s *Scraper) Apply(targets []Target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := make(map[string]*follower, len(s.followers))
	for _, f := range s.followers {
		gone[f.name] = f
	}
	s.followers = nil
	for _, t := range targets {
		f := gone[t.Name]
		if f == nil {
			f = &follower{name: t.Name}
			f.status.LastError = "not polled yet"
		}
		delete(gone, t.Name)
		f.update(func(status *Status) { status.Target = t })
		s.followers = append(s.followers, f)
		s.start(f)
	}
	s.stop(slices.Collect(maps.Values(gone)))
}

// start has a follower run, if the scraper does and it doesn't yet.
func (s *Scraper) start(f *follower) {
	if s.ctx == nil || s.ctx.Err() != nil || f.done != nil {
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	f.cancel, f.done = cancel, make(chan struct{})
	go func() {
		defer close(f.done)
		s.follow(ctx, f)
	}()
}

// stop ends followers, all of them at once, and waits.
func (s *Scraper) stop(gone []*follower) {
	gone = slices.DeleteFunc(gone, func(f *follower) bool { return f.done == nil })
	for _, f := range gone {
		f.cancel()
	}
	for _, f := range gone {
		<-f.done
		s.sink.SetUp(f.name, false)
	}
}

// Statuses returns the state of each target, in the order of Apply.
func (s *Scraper) Statuses() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	statuses := make([]Status, len(s.followers))
	for i, f := range s.followers {
		statuses[i] = f.read()
	}
	return statuses
}

// Run polls all targets until the context ends. It always returns nil.
func (s *Scraper) Run(ctx context.Context) error {
	s.mu.Lock()
	s.ctx = ctx
	for _, f := range s.followers {
		s.start(f)
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.followers {
		if f.done != nil {
			<-f.done
		}
	}
	return nil
}

// follow polls one target.
func (s *Scraper) follow(ctx context.Context, f *follower) {
	poll.Sleep(ctx, upTo(s.configuration.Spread))
	var at poll.Position
	for failures := 0; ctx.Err() == nil; {
		target := f.read().Target
		began := time.Now()
		batch, received, err := s.reader.Poll(ctx, target.Client, target.URL, target.Timeout, at)
		if ctx.Err() != nil {
			return
		}
		var fresh []*epoch.Epoch
		var missed uint64
		if err == nil {
			fresh, missed, err = at.Newer(batch)
		}
		took := time.Since(began)
		if err != nil {
			failures++
			s.failed(f, received, took, err)
			poll.Sleep(ctx, s.backoff(failures, poll.ReasonOf(err)))
			continue
		}
		failures = 0
		s.succeeded(f, received, missed, took)
		s.sink.Exchanged(f.name, batch.Exchange)
		for _, e := range fresh {
			s.deliver(f, e)
		}
		poll.Sleep(ctx, s.configuration.Interval/2+upTo(s.configuration.Interval)-took)
	}
}

// failed notes a poll that failed.
func (s *Scraper) failed(f *follower, received uint64, took time.Duration, err error) {
	var was Status
	f.update(func(status *Status) {
		was = *status
		status.Up, status.LastError = false, shortened(err)
		status.Polls++
		if status.Errors == nil {
			status.Errors = make(map[poll.Reason]uint64)
		}
		status.Errors[poll.ReasonOf(err)]++
		status.ReceivedBytes += received
		status.LastDuration = took
	})
	s.sink.SetUp(f.name, false)
	if was.Up || was.Polls == 0 {
		s.logger.Warn("exporter is down", "exporter", f.name, "reason", poll.ReasonOf(err), "err", shortened(err))
	}
}

// maxError bounds what is kept and logged of an error, which may have a target's own
// words in it.
const maxError = 256

func shortened(err error) string {
	text := err.Error()
	if len(text) > maxError {
		text = strings.ToValidUTF8(text[:maxError], "") + "..."
	}
	return text
}

// succeeded notes a poll that didn't fail.
func (s *Scraper) succeeded(f *follower, received, missed uint64, took time.Duration) {
	var was Status
	f.update(func(status *Status) {
		was = *status
		status.Up, status.LastError = true, ""
		status.Polls++
		status.ReceivedBytes += received
		status.MissedEpochs += missed
		status.LastDuration = took
	})
	if !was.Up {
		s.logger.Info("exporter is up", "exporter", f.name)
	}
	s.sink.SetUp(f.name, true)
}

// deliver hands one epoch on. One that the sink refuses, or sketches of it, is
// counted, and the reason is shown, but the exporter isn't down by that.
func (s *Scraper) deliver(f *follower, e *epoch.Epoch) {
	err := s.sink.Append(f.name, e)
	f.update(func(status *Status) {
		status.Host = e.Host
		if err != nil {
			status.LastError = shortened(err)
		}
		if err != nil && !errors.Is(err, epoch.ErrSketches) {
			status.RefusedEpochs++
			return
		}
		status.LastEpoch = e.End
	})
}

// backoff returns how long to wait after so many failures in a row, the last of them
// for a reason.
func (s *Scraper) backoff(failures int, last poll.Reason) time.Duration {
	if last.Useless() {
		return s.configuration.UselessBackoff.After(failures)
	}
	return s.configuration.Backoff.After(failures)
}

// upTo returns a random time from 0 to d.
func upTo(d time.Duration) time.Duration { return rand.N(d + 1) }
