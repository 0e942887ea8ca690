package main

import (
	"log/slog"

	"github.com/traffic-monitor-agent/tma/exporter/capture"
	"github.com/traffic-monitor-agent/tma/exporter/config"
	"github.com/traffic-monitor-agent/tma/internal/reload"
)

// reloadable is what takes over a changed configuration; *capture.Capture is one.
type reloadable interface {
	Reload(capture.Config) error
}

// newReloader reads the arguments of the command line, and the file that they name,
// again. What is wrong, or can't change while the exporter runs, leaves everything as
// it is.
func newReloader(args []string, running *config.Config, source reloadable, windows *windows, logger *slog.Logger) *reload.Reloader {
	return reload.New(func() error {
		options, err := config.Parse(args)
		if err != nil {
			return err
		}
		changed := &options.Config
		if err := running.CheckReload(changed); err != nil {
			return err
		}
		if err := source.Reload(liveConfig(changed)); err != nil {
			return err
		}
		windows.reconfigure(changed)
		running = changed
		return nil
	}, logger)
}
