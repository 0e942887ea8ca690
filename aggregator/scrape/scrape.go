// Package scrape reads the epochs of exporters by long polls, each target on its
// own, so that none delays another.
//
// A poll asks for the epochs after the last one that was read; an exporter keeps
// the last minutes, so a poll that fails loses nothing. Sizes of answers are
// bounded before anything is allocated.
package scrape

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// Sink takes what is scraped. Its methods are called concurrently, but those for
// one exporter never.
type Sink interface {
	// Append takes an epoch, oldest first. It keeps the epoch.
	Append(exporter string, e *epoch.Epoch) error
	// SetUp says whether the last poll of an exporter succeeded.
	SetUp(exporter string, up bool)
}

// Configuration is how often targets are polled.
type Configuration struct {
	// A target that answers at once is polled no more often than this.
	Interval time.Duration
	// After failures in a row polls are so far apart, doubling from the least to
	// the greatest, less up to half of it at random, so that a fleet's exporters
	// aren't asked in step.
	LeastBackoff, GreatestBackoff time.Duration
}

// DefaultConfiguration notices an exporter's return within three seconds.
func DefaultConfiguration() Configuration {
	return Configuration{
		Interval:        50 * time.Millisecond,
		LeastBackoff:    200 * time.Millisecond,
		GreatestBackoff: 3 * time.Second,
	}
}

// Scraper polls targets.
type Scraper struct {
	configuration Configuration
	sink          Sink
	client        *http.Client
	logger        *slog.Logger
	states        []*state
}

// New returns a scraper that does nothing before Run. Names of targets have to
// be different.
func New(configuration Configuration, targets []Target, sink Sink, logger *slog.Logger) *Scraper {
	s := &Scraper{configuration: configuration, sink: sink, logger: logger, client: newClient()}
	for _, t := range targets {
		s.states = append(s.states, &state{status: Status{Target: t, LastError: "not polled yet"}})
	}
	return s
}

// newClient returns a client that decompresses nothing by itself and goes only
// where it is told to.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DisableCompression:     true,
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        time.Minute,
			TLSHandshakeTimeout:    5 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Statuses returns the state of each target, in the order of New.
func (s *Scraper) Statuses() []Status {
	statuses := make([]Status, len(s.states))
	for i, state := range s.states {
		statuses[i] = state.read()
	}
	return statuses
}

// Run polls all targets until the context ends. It always returns nil.
func (s *Scraper) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, state := range s.states {
		running.Go(func() { s.follow(ctx, state) })
	}
	running.Wait()
	s.client.CloseIdleConnections()
	return nil
}

// follow polls one target.
func (s *Scraper) follow(ctx context.Context, state *state) {
	target := state.read().Target
	var at position
	for failures := 0; ctx.Err() == nil; {
		began := time.Now()
		batch, received, err := s.poll(ctx, &target, at)
		if ctx.Err() != nil {
			return
		}
		took := time.Since(began)
		if err != nil {
			s.failed(state, received, took, err)
			failures++
			sleep(ctx, s.backoff(failures))
			continue
		}
		failures = 0
		s.succeeded(state, received, took, batch, &at)
		sleep(ctx, s.configuration.Interval-took)
	}
}

// failed notes a poll that failed.
func (s *Scraper) failed(state *state, received uint64, took time.Duration, err error) {
	var was Status
	state.update(func(status *Status) {
		was = *status
		status.Up, status.LastError = false, err.Error()
		status.Polls++
		status.Errors++
		status.ReceivedBytes += received
		status.LastDuration = took
	})
	s.sink.SetUp(was.Name, false)
	if was.Up || was.Polls == 0 {
		s.logger.Warn("exporter is down", "exporter", was.Name, "error", err)
	}
}

// succeeded hands a batch on.
func (s *Scraper) succeeded(state *state, received uint64, took time.Duration, batch *epoch.Batch, at *position) {
	epochs, missed := at.newer(batch)
	var was Status
	state.update(func(status *Status) {
		was = *status
		status.Up, status.LastError = true, ""
		status.Polls++
		status.ReceivedBytes += received
		status.MissedEpochs += missed
		status.LastDuration = took
	})
	if !was.Up {
		s.logger.Info("exporter is up", "exporter", was.Name)
	}
	s.sink.SetUp(was.Name, true)
	for _, e := range epochs {
		s.deliver(state, e)
	}
}

// deliver hands one epoch on. One that the sink refuses is counted, and the
// reason is shown, but the exporter isn't down by that.
func (s *Scraper) deliver(state *state, e *epoch.Epoch) {
	err := s.sink.Append(state.read().Name, e)
	state.update(func(status *Status) {
		status.Host = e.Host
		if err != nil {
			status.RefusedEpochs++
			status.LastError = err.Error()
			return
		}
		status.LastEpoch = e.End
	})
}

// backoff returns how long to wait after so many failures in a row.
func (s *Scraper) backoff(failures int) time.Duration {
	longest := s.configuration.GreatestBackoff
	if shift := failures - 1; shift < 16 {
		longest = min(longest, s.configuration.LeastBackoff<<shift)
	}
	return longest - rand.N(longest/2+1)
}

// sleep waits, or until the context ends.
func sleep(ctx context.Context, d time.Duration) {
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
