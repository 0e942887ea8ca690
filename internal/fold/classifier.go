package fold

import (
	"net/netip"

	"github.com/gaissmai/bart"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// Classifier tells which host of a fleet answers for a flow. Not safe for concurrent
// use, and not to be changed once it was used.
type Classifier struct {
	Local []netip.Prefix // the host's own addresses and networks
	Fleet []netip.Prefix // where all monitored hosts are, from the configuration

	table *bart.Lite // of Local, where that is long; made when first used
}

// longList is from how many networks on a table is faster than a look at all of them.
// A host has a few, an aggregator those of its hosts.
const longList = 64

// isLocal says whether the address is the host's own.
func (c *Classifier) isLocal(address netip.Addr) bool {
	if len(c.Local) < longList {
		return contains(c.Local, address)
	}
	if c.table == nil {
		c.table = new(bart.Lite)
		for _, network := range c.Local {
			c.table.Insert(network)
		}
	}
	return c.table.Contains(address)
}

// Class returns FleetSource where the source is on another host of the fleet,
// FleetDestination where the source is outside and the destination is on another
// host of the fleet, and Own otherwise.
func (c *Classifier) Class(key *flow.Key) epoch.Class {
	if len(c.Fleet) == 0 {
		return epoch.Own
	}
	source := key.SourceAddr()
	if c.isLocal(source) {
		return epoch.Own
	}
	if contains(c.Fleet, source) {
		return epoch.FleetSource
	}
	destination := key.DestinationAddr()
	if !c.isLocal(destination) && contains(c.Fleet, destination) {
		return epoch.FleetDestination
	}
	return epoch.Own
}

func contains(networks []netip.Prefix, address netip.Addr) bool {
	for _, network := range networks {
		if network.Contains(address) {
			return true
		}
	}
	return false
}
