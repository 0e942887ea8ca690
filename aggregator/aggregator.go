package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/sync/errgroup"

	"github.com/traffic-monitor-agent/tma/aggregator/api"
	"github.com/traffic-monitor-agent/tma/aggregator/collector"
	"github.com/traffic-monitor-agent/tma/aggregator/config"
	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/aggregator/scrape"
	"github.com/traffic-monitor-agent/tma/aggregator/store"
	"github.com/traffic-monitor-agent/tma/aggregator/targets"
	"github.com/traffic-monitor-agent/tma/internal/reload"
)

const (
	maxStreams = 1000
	// How long requests in progress may take at the end.
	shutdownTimeout = 3 * time.Second
)

// Aggregator is the program's parts, wired.
type Aggregator struct {
	configuration config.Configuration
	store         *store.Store
	targets       *targets.Manager
	scraper       *scrape.Scraper
	reload        *reload.Reloader
	upwards       *federation // nil if no aggregator may scrape this one
	api           *api.API
	handler       http.Handler
	logger        *slog.Logger
}

// New wires everything and starts nothing. The file is where the configuration came
// from, and comes from again on a reload.
func New(c config.Configuration, file string, logger *slog.Logger) (*Aggregator, error) {
	windows := store.New(storeConfiguration(c), time.Now)
	a := &Aggregator{configuration: c, store: windows, scraper: scrape.New(scrape.DefaultConfiguration(), windows, logger), logger: logger}
	registry := prometheus.NewRegistry()
	var err error
	if a.targets, err = targets.New(a.scraper.Apply, registry, logger); err != nil {
		return nil, err
	}
	a.reload = reload.New(func() error { return a.load(file) }, logger)
	a.api = api.New(apiConfiguration(c), windows, a.scraper.Statuses, time.Now, logger)
	register(registry, collector.New(collectorConfiguration(c), windows, a.scraper.Statuses, time.Now), a.reload)
	if a.upwards, err = newFederation(c.Federation, windows, logger); err != nil {
		return nil, err
	}
	a.handler, err = newHandler(a.api, metricsHandler(registry), a.reload, a.upwards)
	return a, err
}

// load takes over what a changed file says of targets and networks.
func (a *Aggregator) load(file string) error {
	changed, err := config.Load(file)
	if err != nil {
		return err
	}
	if err := a.configuration.CheckReload(&changed); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if err := a.apply(changed); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	a.configuration = changed
	return nil
}

// apply takes over what may change while the aggregator runs.
func (a *Aggregator) apply(c config.Configuration) error {
	if err := a.targets.Apply(c.ScrapeConfigs); err != nil {
		return err
	}
	a.store.SetNetworks(c.NetworkNames())
	if keys := c.Ignored(); len(keys) > 0 {
		a.logger.Info("The configuration has keys of Prometheus that mean nothing here", "keys", strings.Join(keys, " "))
	}
	return nil
}

func storeConfiguration(c config.Configuration) store.Configuration {
	s := store.DefaultConfiguration()
	s.Levels = hhh.Steps(int(c.HHH.IPv4Step), int(c.HHH.IPv6Step))
	s.Retention = time.Duration(c.Retention)
	s.MaxPrefixes, s.MaxFlows = int(c.Limits.PrefixesPerBucket), int(c.Limits.FlowsPerBucket)
	if c.Federation.Name != "" {
		s.MergedAfter = time.Duration(c.Federation.Delay)
	}
	s.Memory, s.MaxTransitFlows = int64(c.Limits.Memory/2), int(c.Limits.TransitFlows)
	return s
}

func apiConfiguration(c config.Configuration) api.Configuration {
	return api.Configuration{Phi: float64(c.HHH.Phi), Retention: time.Duration(c.Retention), MaxStreams: maxStreams}
}

func collectorConfiguration(c config.Configuration) collector.Configuration {
	to := collector.Configuration{Phi: float64(c.HHH.Phi), HHHWindow: time.Duration(c.HHH.Window)}
	for _, window := range c.Cardinality.Windows {
		to.CardinalityWindows = append(to.CardinalityWindows, time.Duration(window))
	}
	return to
}

// register adds all metrics there are, but for those of the service discovery and of
// their own handler. docs/metrics.md is generated from the registry.
func register(registry *prometheus.Registry, own ...prometheus.Collector) {
	registry.MustRegister(own...)
	registry.MustRegister(
		versioncollector.NewCollector("tma_aggregator"),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
}

// metricsHandler serves a registry, to which it adds metrics of itself.
func metricsHandler(registry *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		Registry: registry, EnableOpenMetrics: true, MaxRequestsInFlight: 4,
	})
}

// newHandler serves the API, the metrics and a page that leads to them.
func newHandler(answers *api.API, metrics, reload http.Handler, upwards *federation) (http.Handler, error) {
	landing, err := web.NewLandingPage(web.LandingConfig{
		Name:        "TMA aggregator",
		Description: "Who talks to whom in the fleet",
		Version:     version.Info(),
		Profiling:   "false",
		Links: []web.LandingLinks{
			{Address: "/v1/hhh", Text: "Heavy hitters"}, {Address: "/v1/tree", Text: "Tree"},
			{Address: "/v1/top", Text: "Top flows"}, {Address: "/v1/series", Text: "Heavy hitters over time"},
			{Address: "/v1/matrix", Text: "Networks"}, {Address: "/v1/cardinality", Text: "Cardinality"},
			{Address: "/v1/exporters", Text: "Exporters"}, {Address: "/metrics", Text: "Metrics"},
		},
	})
	mux := http.NewServeMux()
	mux.Handle("/metrics", metrics)
	mux.Handle("/{$}", landing)
	mux.Handle("/-/reload", reload)
	mux.Handle("/", answers)
	if upwards != nil {
		mux.Handle("/v1/epochs", upwards.handler)
	}
	return mux, err
}

// Run scrapes and serves until the context ends, or serving fails.
func (a *Aggregator) Run(ctx context.Context, flags *web.FlagConfig) error {
	if err := a.apply(a.configuration); err != nil {
		return err
	}
	server := &http.Server{
		Handler:           a.handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	server.RegisterOnShutdown(a.api.Shutdown)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group errgroup.Group
	group.Go(func() error { return a.targets.Run(ctx) })
	group.Go(func() error { return a.scraper.Run(ctx) })
	group.Go(func() error { return a.reload.OnSignal(ctx) })
	if a.upwards != nil {
		group.Go(func() error { a.upwards.run(ctx); return nil })
	}
	serving := make(chan error, 1)
	go func() { serving <- web.ListenAndServe(server, flags, a.logger) }()

	var failure error
	select {
	case failure = <-serving:
	case <-ctx.Done():
		failure = shutdown(server)
	}
	cancel()
	return errors.Join(failure, group.Wait())
}

// shutdown lets requests in progress finish, within bounds.
func shutdown(server *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return server.Close()
	}
	return err
}
