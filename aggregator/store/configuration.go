package store

import (
	"time"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
)

// Configuration bounds what a Store keeps. All of it has to be positive.
type Configuration struct {
	Levels    hhh.Levels    // of the trees
	Retention time.Duration // how far back windows reach
	Fine      time.Duration // buckets are 1 s up to this age, 10 s beyond
	// Hold is how long a second stays open after its first epoch came in: so late
	// may another host's view of it arrive and still decide who counts a flow.
	Hold time.Duration
	// TransitExpiry is after how long without the flow its counting host loses it
	// to another one, if neither end of the flow is monitored. Less than Hold.
	TransitExpiry time.Duration
	// MergedAfter is how long after its end a second is handed on as one epoch (see
	// Merged). It is less than Hold; 0 is never.
	MergedAfter time.Duration
	// Skew is how far ahead of the aggregator's a host's clock may be.
	Skew time.Duration

	MaxPrefixes     int // in a closed bucket and dimension; at least 2
	MaxFlows        int // in a closed bucket
	MaxOpenRecords  int // flows and prefixes in all open buckets
	MaxTransitFlows int // whose counting host is remembered
}

// DefaultConfiguration keeps 15 minutes. At worst that is about 1 GiB, all
// bounds reached in every second; an ordinary fleet needs a tenth.
func DefaultConfiguration() Configuration {
	return Configuration{
		Levels:          hhh.DefaultLevels(),
		Retention:       15 * time.Minute,
		Fine:            5 * time.Minute,
		Hold:            10 * time.Second,
		TransitExpiry:   5 * time.Second,
		Skew:            time.Minute,
		MaxPrefixes:     16384,
		MaxFlows:        8192,
		MaxOpenRecords:  4 << 20,
		MaxTransitFlows: 1 << 18,
	}
}
