package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/traffic-monitor-agent/tma/aggregator/api"
	"github.com/traffic-monitor-agent/tma/aggregator/collector"
	"github.com/traffic-monitor-agent/tma/aggregator/config"
	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/aggregator/scrape"
	"github.com/traffic-monitor-agent/tma/aggregator/store"
)

const (
	maxStreams = 1000
	// How long requests in progress may take at the end.
	shutdownTimeout = 3 * time.Second
)

// Aggregator is the program's parts, wired.
type Aggregator struct {
	scraper *scrape.Scraper
	api     *api.API
	handler http.Handler
	logger  *slog.Logger
}

// New wires everything and starts nothing.
func New(c config.Configuration, logger *slog.Logger) (*Aggregator, error) {
	windows := store.New(storeConfiguration(c), time.Now)
	scraper := scrape.New(scrape.DefaultConfiguration(), targets(c), windows, logger)
	answers := api.New(apiConfiguration(c), windows, scraper.Statuses, time.Now, logger)
	registry := newRegistry(collector.New(collectorConfiguration(c), windows, scraper.Statuses, time.Now))
	handler, err := newHandler(answers, metricsHandler(registry))
	return &Aggregator{scraper: scraper, api: answers, handler: handler, logger: logger}, err
}

func storeConfiguration(c config.Configuration) store.Configuration {
	s := store.DefaultConfiguration()
	s.Levels = hhh.Steps(int(c.HHH.IPv4Step), int(c.HHH.IPv6Step))
	s.Retention = time.Duration(c.Retention)
	s.MaxPrefixes, s.MaxFlows = int(c.Limits.PrefixesPerBucket), int(c.Limits.FlowsPerBucket)
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

// newRegistry returns all metrics there are, but for those of their own handler.
// docs/metrics.md is generated from it.
func newRegistry(c *collector.Collector) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		c,
		versioncollector.NewCollector("tma_aggregator"),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return registry
}

// metricsHandler serves a registry, to which it adds metrics of itself.
func metricsHandler(registry *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		Registry: registry, EnableOpenMetrics: true, MaxRequestsInFlight: 4,
	})
}

// newHandler serves the API, the metrics and a page that leads to them.
func newHandler(answers *api.API, metrics http.Handler) (http.Handler, error) {
	landing, err := web.NewLandingPage(web.LandingConfig{
		Name:        "TMA aggregator",
		Description: "Who talks to whom in the fleet",
		Version:     version.Info(),
		Profiling:   "false",
		Links: []web.LandingLinks{
			{Address: "/v1/hhh", Text: "Heavy hitters"}, {Address: "/v1/tree", Text: "Tree"},
			{Address: "/v1/top", Text: "Top flows"}, {Address: "/v1/cardinality", Text: "Cardinality"},
			{Address: "/v1/exporters", Text: "Exporters"}, {Address: "/metrics", Text: "Metrics"},
		},
	})
	mux := http.NewServeMux()
	mux.Handle("/metrics", metrics)
	mux.Handle("/{$}", landing)
	mux.Handle("/", answers)
	return mux, err
}

// Run scrapes and serves until the context ends, or serving fails.
func (a *Aggregator) Run(ctx context.Context, flags *web.FlagConfig) error {
	server := &http.Server{
		Handler:           a.handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	server.RegisterOnShutdown(a.api.Shutdown)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	scraping := make(chan error, 1)
	go func() { scraping <- a.scraper.Run(ctx) }()
	serving := make(chan error, 1)
	go func() { serving <- web.ListenAndServe(server, flags, a.logger) }()

	var failure error
	select {
	case failure = <-serving:
	case <-ctx.Done():
		failure = shutdown(server)
	}
	cancel()
	return errors.Join(failure, <-scraping)
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
