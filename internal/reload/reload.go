// Package reload has a program read its configuration again on SIGHUP and on
// POST /-/reload, and say in its metrics how that went, as Prometheus does.
package reload

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
)

// Reloader reloads on request, one at a time. It is the handler of /-/reload, and a
// prometheus.Collector.
type Reloader struct {
	apply   func() error
	logger  *slog.Logger
	signals chan os.Signal

	mu sync.Mutex // one reload at a time

	succeeded, successTime prometheus.Gauge
}

// New returns a reloader that calls apply, which leaves everything as it was if it
// returns an error. It takes SIGHUP, which would end the process, from now on.
func New(apply func() error, logger *slog.Logger) *Reloader {
	r := &Reloader{
		apply: apply, logger: logger,
		signals: make(chan os.Signal, 1),
		succeeded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tma_config_last_reload_successful",
			Help: "Whether the last attempt to load the configuration succeeded.",
		}),
		successTime: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tma_config_last_reload_success_timestamp_seconds",
			Help: "When the configuration was last loaded.",
		}),
	}
	signal.Notify(r.signals, syscall.SIGHUP)
	r.note(nil)
	return r
}

// Describe implements prometheus.Collector.
func (r *Reloader) Describe(to chan<- *prometheus.Desc) {
	r.succeeded.Describe(to)
	r.successTime.Describe(to)
}

// Collect implements prometheus.Collector.
func (r *Reloader) Collect(to chan<- prometheus.Metric) {
	r.succeeded.Collect(to)
	r.successTime.Collect(to)
}

// OnSignal reloads at each SIGHUP until the context ends. It always returns nil.
func (r *Reloader) OnSignal(ctx context.Context) error {
	defer signal.Stop(r.signals)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.signals:
			_ = r.reload() // logged
		}
	}
}

// reload takes over the configuration as it is now.
func (r *Reloader) reload() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.apply()
	r.note(err)
	if err != nil {
		r.logger.Error("Loading the configuration failed; the old one stays", "err", err)
		return err
	}
	r.logger.Info("Loaded the configuration")
	return nil
}

func (r *Reloader) note(err error) {
	if err != nil {
		r.succeeded.Set(0)
		return
	}
	r.succeeded.Set(1)
	r.successTime.SetToCurrentTime()
}

// ServeHTTP is POST /-/reload.
func (r *Reloader) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	if request.Method != http.MethodPost && request.Method != http.MethodPut {
		w.Header().Set("Allow", "POST, PUT")
		http.Error(w, "method not allowed; allowed: POST, PUT", http.StatusMethodNotAllowed)
		return
	}
	if err := r.reload(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Write([]byte("Reloaded.\n"))
}
