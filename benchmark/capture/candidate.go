package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"time"

	"github.com/traffic-monitor-agent/tma/benchmark/load"
	"github.com/traffic-monitor-agent/tma/exporter/capture"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// candidateCommand is the first argument of a process that is a candidate's user
// space. It attaches its program to the device of load.DeviceName, does what user
// space has to do until its standard input ends, and writes a summary.
const candidateCommand = "candidate"

// summary is what a candidate's user space knows of the packets at the end.
type summary struct {
	Total epoch.Count `json:"total"` // that the hook saw
	// Kept is how much of it user space got to know under a flow or a prefix.
	Kept epoch.Count `json:"kept"`
}

// share is the share of the packets that was kept; an empty program keeps all that
// it counts.
func (s *summary) share() float64 {
	if s.Total.Packets == 0 {
		return 1
	}
	return float64(s.Kept.Packets) / float64(s.Total.Packets)
}

// userSpace attaches a candidate, serves it until the context ends, and sums up.
type userSpace func(ctx context.Context) (summary, error)

// candidates are the columns of the table, the floor first.
const (
	candidateEmpty  = "empty"
	candidateTMA    = "tma"
	candidateLocked = "hash, lock, time"
	candidateLRU    = "LRU per-CPU hash"
)

var candidates = map[string]userSpace{
	candidateEmpty:  serveEmpty,
	candidateTMA:    serveTMA,
	candidateLocked: serveLocked,
	candidateLRU:    serveLRU,
}

// candidateMain is the program of a candidate's user space.
func candidateMain(name string) error {
	serve, found := candidates[name]
	if !found {
		return fmt.Errorf("no candidate %q", name)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // the parent closes it, or is gone
		cancel()
	}()
	s, err := serve(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

// serveTMA is the exporter's capture with its default settings.
func serveTMA(ctx context.Context) (s summary, err error) {
	c, err := capture.New(capture.Config{
		Include: regexp.MustCompile("^" + load.DeviceName + "$"),
		Epoch:   epochLen,
		Memory:  memory,
		Host:    "benchmark",
	}, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return s, c.Run(ctx, func(e *epoch.Epoch, _ time.Duration) {
		kept := e.Total()
		kept.Sub(e.Remainder())
		kept.Sub(e.Unaccounted(flow.Source))
		s.Kept.Add(kept)
		s.Total.Add(e.Total())
	})
}

const (
	epochLen = 500 * time.Millisecond
	memory   = 64 << 20 // bytes
)
