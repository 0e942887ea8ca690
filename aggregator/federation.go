package main

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/traffic-monitor-agent/tma/aggregator/config"
	"github.com/traffic-monitor-agent/tma/aggregator/store"
	exporterapi "github.com/traffic-monitor-agent/tma/exporter/api"
	"github.com/traffic-monitor-agent/tma/exporter/window"
)

// federation serves what the store merged to other aggregators, as an exporter serves
// its epochs: GET /v1/epochs, one epoch a second.
type federation struct {
	name    string
	store   *store.Store
	history *window.History
	handler http.Handler
	logger  *slog.Logger
}

// How long merged epochs are kept for aggregators that come back, and in how much
// memory.
const (
	mergedRetention = 5 * time.Minute
	mergedMemory    = 64 << 20
)

// mergedInterval is how often the store is asked for seconds that have come of age.
const mergedInterval = 100 * time.Millisecond

// everywhere is where the hosts of the fleet are: whatever no host here has may be
// another aggregator's, and stays in the class that says so.
var everywhere = []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}

// newFederation returns nil if the aggregator has no name for others.
func newFederation(c config.Federation, s *store.Store, logger *slog.Logger) (*federation, error) {
	if c.Name == "" {
		return nil, nil
	}
	f := &federation{name: c.Name, store: s, logger: logger}
	f.history = window.NewHistory(window.HistoryConfig{
		Flows: int(c.Flows), Retention: mergedRetention, MaxBytes: mergedMemory, Fleet: everywhere,
	})
	var boot [16]byte
	rand.Read(boot[:]) // never fails
	var err error
	f.handler, err = exporterapi.New(exporterapi.Config{Boot: boot, History: f.history})
	return f, err
}

// run hands seconds on until the context ends.
func (f *federation) run(ctx context.Context) {
	ticker := time.NewTicker(mergedInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f.handOn()
		}
	}
}

func (f *federation) handOn() {
	for _, e := range f.store.Merged() {
		e.Host = f.name
		if err := f.history.Add(e); err != nil {
			f.logger.Error("can't hand a second on", "error", err)
		}
	}
}
