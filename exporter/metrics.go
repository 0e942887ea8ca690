package main

import (
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxScrapes is how many scrapes are answered at once.
const maxScrapes = 8

// registry returns all metrics there are, but for those of their own handler.
// docs/metrics.md is generated from it.
func (w *windows) registry(reload *reloader) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		w.collector,
		w.health,
		reload.succeeded,
		reload.successTime,
		versioncollector.NewCollector("tma"),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return registry
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
