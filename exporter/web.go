package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/sync/errgroup"

	"github.com/traffic-monitor-agent/tma/exporter/config"
)

// Bounds on clients of the web server. A write may begin as late as the longest
// wait of /v1/epochs, which sets its own deadline then, as profiles do.
const (
	headerTimeout   = 5 * time.Second
	writeTimeout    = time.Minute
	idleTimeout     = 2 * time.Minute
	shutdownTimeout = 5 * time.Second
	maxHeaderBytes  = 16 << 10
)

// newSite returns everything that is served: the metrics, the endpoints under /v1/
// and /-/, and a page with links to them.
func newSite(o *config.Options, metrics, endpoints, reload http.Handler) (http.Handler, error) {
	landing, err := landingPage(o)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", landing)
	mux.Handle("GET "+o.TelemetryPath, metrics)
	mux.Handle("/-/reload", reload)
	mux.Handle("/v1/", endpoints)
	mux.Handle("/-/", endpoints)
	if o.Profiles {
		addProfiles(mux)
	}
	return mux, nil
}

func landingPage(o *config.Options) (http.Handler, error) {
	profiling := "false"
	if o.Profiles {
		profiling = "true"
	}
	return web.NewLandingPage(web.LandingConfig{
		Name:        "TMA exporter",
		Description: "Counts every packet of this host and says who talks to whom.",
		Version:     version.Info(),
		Profiling:   profiling,
		Links: []web.LandingLinks{
			{Address: o.TelemetryPath, Text: "Metrics", Description: "for Prometheus"},
			{Address: "/v1/snapshot", Text: "Snapshot", Description: "JSON, the last seconds at a glance"},
			{Address: "/v1/epochs", Text: "Epochs", Description: "protobuf, for tma-aggregator"},
			{Address: "/-/healthy", Text: "Healthy", Description: "as long as requests are answered"},
			{Address: "/-/ready", Text: "Ready", Description: "from the first epoch on"},
		},
	})
}

// addProfiles serves what net/http/pprof has, where it serves it itself.
func addProfiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
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
