package epoch_test

import (
	"net/netip"
	"testing"

	. "github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// The example has 450 bytes folded from IPv4 sources, 850 in all, and a remainder
// of 150. 120 of what was folded are doubtful and 70 hidden.
func TestIntervals(t *testing.T) {
	e := example()
	for i, want := range []Interval{{2000, 2000 + 33 + 150}, {40 - 15, 40 + 150}, {0, 400 + 850 + 70 + 150}} {
		if got := e.FlowInterval(&e.Flows[i]); got != want {
			t.Errorf("flow %d: %v, want %v", i, got, want)
		}
	}
	for prefix, want := range map[string]Interval{
		"10.0.0.1/32": {300 - 120, 300 + 50 + 150 + 70},
		"10.0.0.2/32": {2000, 2000 + 50 + 150 + 70},
		"10.0.0.4/32": {40 - 15, 40 + 50 + 150 + 70},
		"10.9.1.0/24": {0, 100 + 50 + 150 + 70},
		"10.9.0.0/16": {0, 100 + 50 + 150 + 70},
		"10.0.0.0/8":  {300 + 100 + 2000 + 40 - 15 - 120, 300 + 100 + 2000 + 40 + 50 + 150 + 70},
		"0.0.0.0/0":   {2490 - 15 - 120, 2490 + 150 + 70},
		"fd00:1::/32": {400 - 120, 400 + 150 + 70},
		"fd00::/48":   {0, 400 + 150 + 70},
		"::/0":        {800 - 400 - 120, 800 + 150 + 70},
	} {
		if got := e.PrefixInterval(flow.Source, netip.MustParsePrefix(prefix)); got != want {
			t.Errorf("%s: %v, want %v", prefix, got, want)
		}
	}
	if got, want := e.PrefixInterval(flow.Destination, netip.MustParsePrefix("fd00::2/128")), (Interval{0, 400 + 850 + 150 + 70}); got != want {
		t.Errorf("destination: %v, want %v", got, want)
	}
}
