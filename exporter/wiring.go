package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/sync/errgroup"

	"github.com/traffic-monitor-agent/tma/exporter/api"
	"github.com/traffic-monitor-agent/tma/exporter/capture"
	"github.com/traffic-monitor-agent/tma/exporter/collector"
	"github.com/traffic-monitor-agent/tma/exporter/config"
	"github.com/traffic-monitor-agent/tma/exporter/window"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// Bounds on clients of the web server. A write may begin as late as the longest
// wait of /v1/epochs, which sets its own deadline then.
const (
	headerTimeout   = 5 * time.Second
	writeTimeout    = time.Minute
	idleTimeout     = 2 * time.Minute
	shutdownTimeout = 5 * time.Second
	maxHeaderBytes  = 16 << 10
	maxScrapes      = 8 // at once
)

// serve captures and serves until the context ends. The arguments are read again for
// a reload.
func serve(ctx context.Context, args []string, o *config.Options) error {
	logger := promslog.New(o.Log)
	logger.Info("Starting tma-exporter", "version", version.Info())
	w := newWindows(&o.Config)
	source, err := newCapture(&o.Config, w.encode, logger)
	if err != nil {
		return err
	}
	defer source.Close()
	if err := capture.DropPrivileges(); err != nil {
		return err
	}
	spareMemory()
	w.attach(source)
	reload := newReloader(args, &o.Config, source, w.history, logger)
	handler, err := w.handler(o, reload)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return source.Run(ctx, w.sink(logger)) })
	group.Go(func() error { return reload.onSignal(ctx) })
	serveWeb(ctx, group, handler, o.Web, logger)
	return group.Wait()
}

func newCapture(c *config.Config, encode func(*epoch.Epoch) ([]byte, error), logger *slog.Logger) (*capture.Capture, error) {
	key, secret, err := c.Sketch.Key()
	if err != nil {
		return nil, err
	}
	if !secret {
		logger.Info("Distinct counts are made with the public key; set sketch.key_file where crafted packets must not drive them")
	}
	host := c.Epochs.Host
	if host == "" {
		if host, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("find the host's name; epochs.host can set it: %w", err)
		}
	}
	return capture.New(capture.Config{
		Include:       c.Capture.Include.Regexp,
		Exclude:       c.Capture.Exclude.Regexp,
		Layer3:        c.Capture.Layer3.Regexp,
		Epoch:         time.Duration(c.Capture.Epoch),
		Memory:        uint64(c.Capture.Memory),
		Fleet:         c.Capture.FleetPrefixes(),
		Host:          host,
		Key:           key,
		PinPath:       c.Capture.PinPath,
		Encode:        encode,
		JournalMemory: uint64(c.Epochs.Memory),
	}, logger)
}

// windows is all that takes epochs.
type windows struct {
	history     *window.History
	topk        *window.TopK
	cardinality *window.Cardinality
	collector   *collector.Collector
	attachments func() []capture.Attachment
	boot        [16]byte
	message     []byte // of the epoch that is being handed over, if it was encoded
}

func newWindows(c *config.Config) *windows {
	w := &windows{
		history:     window.NewHistory(historyConfig(c)),
		topk:        window.NewTopK(c.TopK.K, time.Duration(c.TopK.Window)),
		cardinality: window.NewCardinality(),
	}
	w.collector = collector.New(collector.Config{
		Attachments: func() []capture.Attachment { return w.attachments() },
		Top:         w.topk.Top,
		Cardinality: w.cardinality.Estimates,
		Start:       time.Now(),
	})
	return w
}

func historyConfig(c *config.Config) window.HistoryConfig {
	return window.HistoryConfig{
		Flows:     c.Epochs.Flows,
		Retention: time.Duration(c.Epochs.Retention),
		MaxBytes:  int(c.Epochs.Memory),
		Fleet:     c.Capture.FleetPrefixes(),
	}
}

// attach connects the windows with where epochs come from: those to come, and those
// of an earlier run.
func (w *windows) attach(source *capture.Capture) {
	w.attachments, w.boot = source.Attachments, source.Boot()
	for _, kept := range source.Kept() {
		w.history.Keep(kept.Sequence, kept.End, kept.Message)
	}
}

// encode makes the message of an epoch, which the sink is about to get.
func (w *windows) encode(e *epoch.Epoch) (message []byte, err error) {
	w.message, err = w.history.Encode(e)
	return w.message, err
}

// sink hands an epoch to everybody, on two CPUs: meanwhile nobody drains the ring.
func (w *windows) sink(logger *slog.Logger) capture.Sink {
	return func(e *epoch.Epoch, drain time.Duration) {
		var group sync.WaitGroup
		group.Go(func() {
			w.collector.Add(e, drain)
			w.cardinality.Add(e)
		})
		if err := w.keep(e); err != nil {
			logger.Error("An epoch doesn't go out to aggregators", "err", err)
		}
		w.topk.Add(e, w.history.Trimmed())
		group.Wait()
	}
}

// keep keeps an epoch, which is encoded already if it is pinned.
func (w *windows) keep(e *epoch.Epoch) error {
	message := w.message
	w.message = nil
	if message == nil {
		return w.history.Add(e)
	}
	w.history.Keep(e.Sequence, e.End, message)
	return nil
}

// handler returns everything that is served.
func (w *windows) handler(o *config.Options, reload *reloader) (http.Handler, error) {
	endpoints, err := api.New(w.history, w.boot)
	if err != nil {
		return nil, err
	}
	landing, err := web.NewLandingPage(web.LandingConfig{
		Name:        "TMA exporter",
		Description: "Counts every packet of this host and says who talks to whom.",
		Version:     version.Info(),
		Profiling:   "false",
		Links: []web.LandingLinks{
			{Address: o.TelemetryPath, Text: "Metrics", Description: "for Prometheus"},
			{Address: "/v1/epochs", Text: "Epochs", Description: "protobuf, for tma-aggregator"},
			{Address: "/-/ready", Text: "Ready", Description: "from the first epoch on"},
		},
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", landing)
	mux.Handle(o.TelemetryPath, w.metrics(reload))
	mux.Handle("/-/reload", reload)
	mux.Handle("/v1/", endpoints)
	mux.Handle("/-/", endpoints)
	return mux, nil
}

func (w *windows) metrics(reload *reloader) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		w.collector,
		reload.succeeded,
		reload.successTime,
		versioncollector.NewCollector("tma"),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		Registry:                            registry,
		EnableOpenMetrics:                   true,
		EnableOpenMetricsTextCreatedSamples: true,
		MaxRequestsInFlight:                 maxScrapes,
	})
}

// serveWeb runs the server in the group until the context ends, which ends
// requests that wait, too.
func serveWeb(ctx context.Context, group *errgroup.Group, h http.Handler, flags *web.FlagConfig, logger *slog.Logger) {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	group.Go(func() error {
		if err := web.ListenAndServe(server, flags, logger); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		logger.Info("Stopping")
		last, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
		defer cancel()
		if err := server.Shutdown(last); err != nil {
			return server.Close() // clients that don't read don't keep us
		}
		return nil
	})
}
