package collector

import (
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/traffic-monitor-agent/tma/exporter/window"
	"github.com/traffic-monitor-agent/tma/internal/networks"
	"github.com/traffic-monitor-agent/tma/internal/sketch/pairs"
)

// collectPeers sends who has the most distinct peers: by address, or by network where
// names is given.
func (c *Collector) collectPeers(m emitter, top *window.TopPeers, names *networks.Table) {
	for _, r := range []struct {
		of      string
		desc    *prometheus.Desc
		ranking *pairs.Top
	}{
		{"source_distinct_destinations", m.distinctDestinations, &top.Sources},
		{"destination_distinct_sources", m.distinctSources, &top.Destinations},
	} {
		for label, peers := range peersByLabel(r.ranking, names) {
			m.gauge(r.desc, peers, label)
		}
		c.collectSeries(m, r.of, len(r.ranking.Entries), r.ranking.Admissions, r.ranking.Evictions)
	}
	m.gauge(m.peersRatio, top.SampleRatio)
}

// peersByLabel returns the number of peers of each address, or that of the one with the
// most in each network: peers of several addresses don't add up, and it takes one
// scanner, or one victim, to raise an alarm.
func peersByLabel(r *pairs.Top, names *networks.Table) map[string]float64 {
	most := make(map[string]float64, len(r.Entries))
	for _, e := range r.Entries {
		address := netip.AddrFrom16(e.Address).Unmap()
		label := address.String()
		if names != nil {
			label = names.Name(names.Lookup(address))
		}
		most[label] = max(most[label], float64(e.Estimate()))
	}
	return most
}
