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

	// What windows and open buckets take. A content's share follows from it and from
	// the times above; whatever there is beyond it folds.
	Memory int64

	MaxPrefixes     int // in a content of a second or ten, and dimension; at least 3
	MaxFlows        int // in a content of a second or ten
	MaxTransitFlows int // whose counting host is remembered
}

// DefaultConfiguration keeps an hour in 512 MiB at most.
func DefaultConfiguration() Configuration {
	return Configuration{
		Levels:          hhh.DefaultLevels(),
		Retention:       time.Hour,
		Fine:            5 * time.Minute,
		Hold:            10 * time.Second,
		TransitExpiry:   5 * time.Second,
		Skew:            time.Minute,
		Memory:          512 << 20,
		MaxPrefixes:     16384,
		MaxFlows:        8192,
		MaxTransitFlows: 1 << 18,
	}
}

// openBytes is how much of the memory epochs of open buckets may take: a quarter.
func (c *Configuration) openBytes() int { return int(c.Memory / 4) }

// bounds returns what a content of a second or of ten may keep, so that all that
// there are at once take the other three quarters.
func (c *Configuration) bounds() bounds {
	fine, all := int(c.Fine/time.Second)+2*coarse, int(c.Retention/time.Second)
	shares := fine
	for _, width := range widths {
		shares += (all/int(width) + 2) * width.shares()
	}
	return bounds{flows: c.MaxFlows, prefixes: c.MaxPrefixes, bytes: int(c.Memory * 3 / 4 / int64(shares))}
}
