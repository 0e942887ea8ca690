package main

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/traffic-monitor-agent/tma/exporter/capture"
	"github.com/traffic-monitor-agent/tma/exporter/config"
	"github.com/traffic-monitor-agent/tma/exporter/window"
)

// reloadable is what takes over a changed configuration; *capture.Capture is one.
type reloadable interface {
	Reload(capture.Config) error
}

// reloader reads the configuration again on SIGHUP and POST /-/reload. What is wrong,
// or can't change while the exporter runs, leaves everything as it is.
type reloader struct {
	args    []string // of the command line
	source  reloadable
	history *window.History
	logger  *slog.Logger
	signals chan os.Signal

	mu      sync.Mutex // one reload at a time
	running *config.Config

	succeeded, successTime prometheus.Gauge
}

// newReloader takes SIGHUP, which would end the process, from now on.
func newReloader(args []string, running *config.Config, source reloadable, history *window.History, logger *slog.Logger) *reloader {
	r := &reloader{
		args: args, source: source, history: history, logger: logger, running: running,
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

// onSignal reloads at each SIGHUP until the context ends.
func (r *reloader) onSignal(ctx context.Context) error {
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
func (r *reloader) reload() error {
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

func (r *reloader) apply() error {
	options, err := config.Parse(r.args)
	if err != nil {
		return err
	}
	changed := &options.Config
	if err := r.running.CheckReload(changed); err != nil {
		return err
	}
	if err := r.source.Reload(liveConfig(changed)); err != nil {
		return err
	}
	r.history.Reconfigure(historyConfig(changed))
	r.running = changed
	return nil
}

func (r *reloader) note(err error) {
	if err != nil {
		r.succeeded.Set(0)
		return
	}
	r.succeeded.Set(1)
	r.successTime.SetToCurrentTime()
}

// ServeHTTP is POST /-/reload.
func (r *reloader) ServeHTTP(w http.ResponseWriter, request *http.Request) {
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
