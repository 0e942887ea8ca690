package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/exporter-toolkit/web"

	"github.com/traffic-monitor-agent/tma/lab/traffic"
)

// served is a controller that serves HTTP while it runs.
type served struct {
	*traffic.Controller
	web *web.FlagConfig
}

// Run sends and serves until the traffic ends. If serving fails, the traffic
// ends too.
func (s *served) Run(ctx context.Context) (traffic.Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() {
		// The toolkit's log lines would only repeat the command line.
		ended <- web.ListenAndServe(server, s.web, slog.New(slog.NewTextHandler(io.Discard, nil)))
		cancel()
	}()
	result, err := s.Controller.Run(ctx)
	closed := server.Close()
	if serving := <-ended; !errors.Is(serving, http.ErrServerClosed) {
		err = errors.Join(err, serving)
	}
	return result, errors.Join(err, closed)
}
