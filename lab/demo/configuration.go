// Package demo runs the whole of TMA on one machine: the lab network, an
// exporter and a traffic generator on each host, one aggregator; and shows
// what the aggregator says, each second. Whatever ends it, it takes all down.
package demo

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/traffic-monitor-agent/tma/lab/network"
)

// MaxDuration is how long a demo runs that isn't told when to end.
const MaxDuration = 24 * time.Hour

// Configuration says what the demo runs and where it shows it.
type Configuration struct {
	// Duration is how long to show; from 1 s to MaxDuration.
	Duration time.Duration
	// Binaries is the directory of tma-exporter, tma-aggregator, tma-traffic.
	Binaries string
	Network  network.Configuration
	// Output gets the view: redrawn in place if it is a terminal, else one
	// block of plain lines a second.
	Output io.Writer
}

// DefaultConfiguration shows on standard output until it is ended, with the
// programs that are beside this one.
func DefaultConfiguration() Configuration {
	c := Configuration{Duration: MaxDuration, Network: network.DefaultConfiguration(), Output: os.Stdout}
	if own, err := os.Executable(); err == nil {
		c.Binaries = filepath.Dir(own)
	}
	return c
}

func (c Configuration) validate() error {
	if c.Duration < time.Second || c.Duration > MaxDuration {
		return fmt.Errorf("duration %v: must be from 1s to %v", c.Duration, MaxDuration)
	}
	return nil
}

// The programs.
const (
	exporterProgram   = "tma-exporter"
	aggregatorProgram = "tma-aggregator"
	trafficProgram    = "tma-traffic"
)

func (c Configuration) program(name string) string { return filepath.Join(c.Binaries, name) }
