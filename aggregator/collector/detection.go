package collector

import (
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/aggregator/store"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/sketch/pairs"
)

// Floods and scans show in these: rules that say from when on one is an alert are
// Prometheus'.

// distinctOf says what counts the addresses of a dimension.
var distinctOf = [len(flow.Dimensions)]string{flow.Source: epoch.OfSources, flow.Destination: epoch.OfDestinations}

// collectSpread exports how traffic is spread over the addresses of a dimension, of
// which there are about so many.
func (c *Collector) collectSpread(to chan<- prometheus.Metric, tree *hhh.Tree, d flow.Dimension, distinct float64) {
	window := model.Duration(c.configuration.HHHWindow).String()
	gauge(to, fleetEntropy, tree.Entropy(distinct), distinctOf[d], window)
	heaviest := 0.0
	if top := tree.TopAddresses(1); len(top) > 0 {
		heaviest = float64(top[0].Bytes) / float64(max(1, tree.Total().Bytes))
	}
	gauge(to, fleetHeaviest, heaviest, distinctOf[d], window)
}

func collectPeers(to chan<- prometheus.Metric, top store.Peers) {
	collectSpreads(to, fleetSourcePeers, top.Sources.Entries)
	collectSpreads(to, fleetDestinationPeers, top.Destinations.Entries)
	gauge(to, fleetPeersRatio, top.SampleRatio)
}

func collectSpreads(to chan<- prometheus.Metric, d *prometheus.Desc, entries []pairs.Spread) {
	for i := range entries {
		address := netip.AddrFrom16(entries[i].Address).Unmap()
		gauge(to, d, float64(entries[i].Estimate()), address.String())
	}
}
