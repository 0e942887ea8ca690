package main

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/traffic-monitor-agent/tma/exporter/collector"
	"github.com/traffic-monitor-agent/tma/exporter/config"
	"github.com/traffic-monitor-agent/tma/internal/reload"
)

// maxScrapes is how many scrapes are answered at once.
const maxScrapes = 8

// registry returns all metrics there are, but for those of their own handler.
// docs/metrics.md is generated from it.
func (w *windows) registry(health *collector.Health, reload *reload.Reloader) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		w.collector,
		health,
		reload,
		versioncollector.NewCollector("tma"),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return registry
}

// newHealth returns the metrics of how a capture does.
func (w *windows) newHealth(source collector.Source, c *config.Config) *collector.Health {
	return collector.NewHealth(collector.HealthConfig{
		Source:        source,
		Kept:          w.history.Size,
		CaptureMemory: uint64(c.Capture.Memory),
		EpochsMemory:  uint64(c.Epochs.Memory),
		Start:         time.Now(),
	})
}

// metricsHandler serves a registry, to which it adds metrics of itself. If a metric
// can't be collected it is logged, and the others are served all the same.
func metricsHandler(registry *prometheus.Registry, logger *slog.Logger) http.Handler {
	return promhttp.InstrumentMetricHandler(registry, promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:                            slog.NewLogLogger(logger.Handler(), slog.LevelError),
		ErrorHandling:                       promhttp.ContinueOnError,
		Registry:                            registry,
		EnableOpenMetrics:                   true,
		EnableOpenMetricsTextCreatedSamples: true,
		MaxRequestsInFlight:                 maxScrapes,
	}))
}
