package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/version"
	"golang.org/x/sync/errgroup"

	"github.com/traffic-monitor-agent/tma/exporter/api"
	"github.com/traffic-monitor-agent/tma/exporter/capture"
	"github.com/traffic-monitor-agent/tma/exporter/collector"
	"github.com/traffic-monitor-agent/tma/exporter/config"
	"github.com/traffic-monitor-agent/tma/exporter/window"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/networks"
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
	reload := newReloader(args, &o.Config, source, w, logger)
	endpoints, err := w.endpoints()
	if err != nil {
		return err
	}
	registry := w.registry(w.newHealth(source, &o.Config), reload)
	site, err := newSite(o, metricsHandler(registry, logger), endpoints, reload)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return source.Run(ctx, w.sink(logger)) })
	group.Go(func() error { return reload.OnSignal(ctx) })
	serveWeb(ctx, group, site, o.Web, logger)
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
	full := liveConfig(c)
	full.Epoch = time.Duration(c.Capture.Epoch)
	full.Memory = uint64(c.Capture.Memory)
	full.Host, full.Key = host, key
	full.PinPath, full.Encode, full.JournalMemory = c.Capture.PinPath, encode, uint64(c.Epochs.Memory)
	return capture.New(full, logger)
}

// liveConfig is what of the capture's configuration may change while it runs.
func liveConfig(c *config.Config) capture.Config {
	return capture.Config{
		Include: c.Capture.Include.Regexp,
		Exclude: c.Capture.Exclude.Regexp,
		Layer3:  c.Capture.Layer3.Regexp,
		Fleet:   c.Capture.FleetPrefixes(),
	}
}

// windows is all that takes epochs.
type windows struct {
	history     *window.History
	topk        *window.TopK
	cardinality *window.Cardinality
	flows       *window.FlowSketch
	cpu         *api.CPU
	entropy     *window.Entropy
	peers       *window.Peers
	names       atomic.Pointer[networks.Table] // nil where labels are addresses
	collector   *collector.Collector
	attachments func() []capture.Attachment
	boot        [16]byte
	message     []byte // of the epoch that is being handed over, if it was encoded
}

func newWindows(c *config.Config) *windows {
	history := window.NewHistory(historyConfig(c))
	w := &windows{
		history:     history,
		topk:        window.NewTopK(c.TopK.K, time.Duration(c.TopK.Window)),
		cardinality: window.NewCardinality(),
		flows:       window.NewFlowSketch(history, time.Duration(c.Epochs.Retention)),
		cpu:         &api.CPU{},
		entropy:     window.NewEntropy(),
		peers:       window.NewPeers(c.TopK.K),
	}
	w.reconfigure(c)
	w.collector = collector.New(collector.Config{
		Attachments: func() []capture.Attachment { return w.attachments() },
		Top:         w.topk.Top,
		Cardinality: w.cardinality.Estimates,
		Entropy:     w.entropy.Ratios,
		Peers:       w.peers.Top,
		Names:       w.names.Load,
		Start:       time.Now(),
	})
	return w
}

// reconfigure takes over what may change while they are in use.
func (w *windows) reconfigure(c *config.Config) {
	w.history.Reconfigure(historyConfig(c))
	names := c.NetworkNames()
	w.topk.Name(names)
	w.names.Store(names)
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
			w.entropy.Add(e)
			w.peers.Add(e)
		})
		if err := w.keep(e); err != nil {
			logger.Error("An epoch doesn't go out to aggregators", "err", err)
		}
		group.Go(func() { w.flows.Add(e) })
		w.topk.Add(e, w.history.Trimmed())
		group.Wait()
		w.cpu.Sample(e.End)
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

// endpoints is what is served under /v1/ and /-/.
func (w *windows) endpoints() (http.Handler, error) {
	return api.New(api.Config{
		Version: version.Version, Boot: w.boot, History: w.history, Top: w.topk.Top,
		Cardinality: w.cardinality.Estimates, EstimateFlows: w.flows.Estimate, CPU: w.cpu,
	})
}
