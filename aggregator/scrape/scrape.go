// Package scrape reads the epochs of exporters by long polls, each target on its
// own, so that none delays another.
package scrape

import (
	"context"
	"log/slog"
	"net/http"
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
	// SetUp says whether the last poll of an exporter succeeded.
	SetUp(exporter string, up bool)
}

// Configuration is how often targets are polled.
type Configuration struct {
	// A target that answers at once is polled no more often than this.
	Interval time.Duration
	// How far apart polls are after failures.
	Backoff poll.Backoff
}

// DefaultConfiguration notices an exporter's return within three seconds.
func DefaultConfiguration() Configuration {
	return Configuration{
		Interval: 50 * time.Millisecond,
		Backoff:  poll.DefaultBackoff,
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
	var at poll.Position
	for failures := 0; ctx.Err() == nil; {
		began := time.Now()
		batch, received, err := poll.Poll(ctx, s.client, target.URL, target.Timeout, at)
		if ctx.Err() != nil {
			return
		}
		took := time.Since(began)
		if err != nil {
			s.failed(state, received, took, err)
			failures++
			poll.Sleep(ctx, s.configuration.Backoff.After(failures))
			continue
		}
		failures = 0
		s.succeeded(state, received, took, batch, &at)
		poll.Sleep(ctx, s.configuration.Interval-took)
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
func (s *Scraper) succeeded(state *state, received uint64, took time.Duration, batch *epoch.Batch, at *poll.Position) {
	epochs, missed := at.Newer(batch)
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
	s.sink.Exchanged(was.Name, batch.Exchange)
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
