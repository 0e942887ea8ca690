package collector_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/traffic-monitor-agent/tma/internal/networks"
	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

// Where labels are names, peers go by the names too, and a network has as many as its
// address with the most: they can't be added up.
func TestPeersOfNetworks(t *testing.T) {
	x := newExporter()
	x.add(testEpoch(1))
	x.names = networks.NewTable([]networks.Network{
		{Prefix: yamlconf.Prefix{Prefix: netip.MustParsePrefix("10.0.0.0/8")}, Name: "corp"},
	})
	const want = `
# HELP tma_source_distinct_destinations Estimated number of distinct destinations of a source in the last minute, for the sources with the most: a scanner, or a busy server.
# TYPE tma_source_distinct_destinations gauge
tma_source_distinct_destinations{source="corp"} 2
tma_source_distinct_destinations{source="unnamed"} 1
`
	if err := testutil.GatherAndCompare(x.registry, strings.NewReader(want), "tma_source_distinct_destinations"); err != nil {
		t.Error(err)
	}
}
