package traffic

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// Truth is a line of the ground truth: what was sent of a 5-tuple. Bytes are
// as on the wire, layer-2 header included, frame check sequence not.
type Truth struct {
	Source          netip.Addr `json:"source"`
	Destination     netip.Addr `json:"destination"`
	SourcePort      uint16     `json:"source_port"`
	DestinationPort uint16     `json:"destination_port"`
	Protocol        string     `json:"protocol"`
	Packets         uint64     `json:"packets"`
	Bytes           uint64     `json:"bytes"`
}

// WriteTruth writes the flows of which something was sent as JSON lines, one
// Truth each.
func WriteTruth(to io.Writer, flows []Flow) error {
	buffered := bufio.NewWriter(to)
	encoder := json.NewEncoder(buffered)
	for i := range flows {
		f := &flows[i]
		if f.Packets == 0 {
			continue
		}
		line := Truth{
			Source: f.Key.SourceAddr(), Destination: f.Key.DestinationAddr(),
			SourcePort: f.Key.SourcePort, DestinationPort: f.Key.DestinationPort,
			Protocol: flow.ProtocolName(f.Key.Protocol),
			Packets:  f.Packets, Bytes: f.Bytes,
		}
		if err := encoder.Encode(line); err != nil {
			return fmt.Errorf("write the ground truth: %w", err)
		}
	}
	if err := buffered.Flush(); err != nil {
		return fmt.Errorf("write the ground truth: %w", err)
	}
	return nil
}
