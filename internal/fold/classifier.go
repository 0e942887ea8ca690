package fold

import (
	"net/netip"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// Classifier tells which host of a fleet answers for a flow.
type Classifier struct {
	Local []netip.Prefix // the host's own addresses and networks
	Fleet []netip.Prefix // where all monitored hosts are, from the configuration
}

// Class returns FleetSource where the source is on another host of the fleet,
// FleetDestination where the source is outside and the destination is on another
// host of the fleet, and Own otherwise.
func (c *Classifier) Class(key *flow.Key) epoch.Class {
	if len(c.Fleet) == 0 {
		return epoch.Own
	}
	source := key.SourceAddr()
	if contains(c.Local, source) {
		return epoch.Own
	}
	if contains(c.Fleet, source) {
		return epoch.FleetSource
	}
	destination := key.DestinationAddr()
	if !contains(c.Local, destination) && contains(c.Fleet, destination) {
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
