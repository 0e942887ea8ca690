package epoch_test

import (
	"net/netip"
	"testing"

	. "github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// The example has 450 bytes folded from IPv4 sources, 850 in all, and a remainder
// of 150.
func TestIntervals(t *testing.T) {
	e := example()
	for i, want := range []Interval{{2000, 2000 + 33 + 150}, {40, 40 + 150}, {400, 400 + 850 + 150}} {
		if got := e.FlowInterval(&e.Flows[i]); got != want {
			t.Errorf("flow %d: %v, want %v", i, got, want)
		}
	}
	for prefix, want := range map[string]Interval{
		"10.0.0.1/32": {300, 300 + 50 + 150},
		"10.0.0.2/32": {2000, 2000 + 50 + 150},
		"10.9.1.0/24": {0, 100 + 50 + 150},
		"10.9.0.0/16": {100, 100 + 50 + 150},
		"10.0.0.0/8":  {300 + 100 + 2000 + 40, 300 + 100 + 2000 + 40 + 50 + 150},
		"0.0.0.0/0":   {2490, 2490 + 150},
		"fd00:1::/32": {400, 400 + 150},
		"fd00::/48":   {400, 400 + 150},
		"::/0":        {800, 800 + 150},
	} {
		if got := e.PrefixInterval(flow.Source, netip.MustParsePrefix(prefix)); got != want {
			t.Errorf("%s: %v, want %v", prefix, got, want)
		}
	}
	if got, want := e.PrefixInterval(flow.Destination, netip.MustParsePrefix("fd00::2/128")), (Interval{400, 400 + 850 + 150}); got != want {
		t.Errorf("destination: %v, want %v", got, want)
	}
}
