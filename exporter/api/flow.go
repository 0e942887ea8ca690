package api

import (
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/traffic-monitor-agent/tma/exporter/window"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

// defaultFlowWindow is that of the top talkers by default.
const defaultFlowWindow = 15 * time.Second

// maxFlowWindow is more than is kept by default; what isn't kept isn't answered for.
const maxFlowWindow = time.Hour

// flowBody names a flow as all answers do.
type flowBody struct {
	Source          netip.Addr `json:"source"`
	Destination     netip.Addr `json:"destination"`
	SourcePort      uint16     `json:"source_port"`
	DestinationPort uint16     `json:"destination_port"`
	Protocol        string     `json:"protocol"`
}

// boundsBody is how much there was of a flow. Its bytes are in [lower, upper], always;
// bytes is what is most likely.
type boundsBody struct {
	Bytes   uint64 `json:"bytes"`
	Packets uint64 `json:"packets"`
	Lower   uint64 `json:"lower"`
	Upper   uint64 `json:"upper"`
}

// flowAnswer is the answer of /v1/flow.
type flowAnswer struct {
	Host   string    `json:"host"`
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	Epochs int       `json:"epochs"`
	flowBody
	boundsBody
	Exact bool `json:"exact"` // lower and upper are the same
}

func bodyOf(key *flow.Key) flowBody {
	return flowBody{key.SourceAddr(), key.DestinationAddr(), key.SourcePort, key.DestinationPort, flow.ProtocolName(key.Protocol)}
}

func boundsOf(f *window.FlowEstimates, i int) boundsBody {
	one, interval := &f.Flows[i], f.Interval(i)
	return boundsBody{one.Counted.Bytes + one.Uncounted, one.Counted.Packets, interval.Lower, interval.Upper}
}

// flow answers GET /v1/flow: the bytes of one flow in the last epochs.
func (s *server) flow(w http.ResponseWriter, r *http.Request) {
	q, wrong := parseFlowQuery(r.URL.RawQuery)
	if wrong != nil {
		writeError(w, http.StatusBadRequest, errorBody{wrong.Error(), wrong.parameter})
		return
	}
	f, err := s.config.EstimateFlows(r.Context(), []flow.Key{q.key}, q.window)
	switch {
	case err != nil:
		writeError(w, http.StatusInternalServerError, errorBody{Error: err.Error()})
	case f.Epochs == 0:
		writeError(w, http.StatusServiceUnavailable, errorBody{Error: "no epoch yet"})
	default:
		bounds := boundsOf(&f, 0)
		writeJSON(w, &flowAnswer{
			Host: f.Host, From: f.From.UTC(), To: f.To.UTC(), Epochs: f.Epochs,
			flowBody: bodyOf(&q.key), boundsBody: bounds, Exact: bounds.Lower == bounds.Upper,
		})
	}
}

// flowQuery is the query of /v1/flow.
type flowQuery struct {
	key    flow.Key
	window time.Duration
	ports  [2]bool // by dimension, whether it was given
}

func parseFlowQuery(raw string) (flowQuery, *queryError) {
	q := flowQuery{window: defaultFlowWindow}
	err := parseQuery(raw, []parameter{
		{name: "source", alias: "src", set: setAddress(&q.key.Source), required: true},
		{name: "destination", alias: "dst", set: setAddress(&q.key.Destination), required: true},
		{name: "protocol", set: q.setProtocol, required: true},
		{name: "source_port", set: q.setPort(flow.Source, &q.key.SourcePort)},
		{name: "destination_port", set: q.setPort(flow.Destination, &q.key.DestinationPort)},
		{name: "window", set: q.setWindow},
	})
	if err != nil {
		return q, err
	}
	for _, d := range flow.Dimensions {
		// Without it, the answer would be about a flow that hardly ever exists.
		if !q.ports[d] && (q.key.HasPorts() || hasTypes(q.key.Protocol)) {
			return q, &queryError{d.String() + "_port", "the parameter is missing; only protocols without ports can do without"}
		}
	}
	return q, nil
}

// hasTypes says whether flows of the protocol have a type and a code for ports.
func hasTypes(protocol uint8) bool {
	return protocol == flow.ProtocolICMP || protocol == flow.ProtocolICMPv6
}

// setAddress takes IPv4-mapped addresses as IPv4, as everything does here.
func setAddress(to *[16]byte) func(string) string {
	return func(text string) string {
		address, err := netip.ParseAddr(text)
		if err != nil || address.Zone() != "" {
			return "not an address; allowed: IPv4 or IPv6 without a zone"
		}
		*to = address.As16()
		return ""
	}
}

func (q *flowQuery) setProtocol(text string) string {
	protocol, err := flow.ParseProtocol(text)
	if err != nil {
		return "not a protocol; allowed: a name such as tcp, udp, icmp, or a number from 0 to 255"
	}
	q.key.Protocol = protocol
	return ""
}

func (q *flowQuery) setPort(d flow.Dimension, to *uint16) func(string) string {
	return func(text string) string {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return "not a port; allowed: a number from 0 to 65535, for ICMP the type as source_port and the code as destination_port"
		}
		*to, q.ports[d] = uint16(port), true
		return ""
	}
}

func (q *flowQuery) setWindow(text string) string {
	var window yamlconf.Duration
	if window.Set(text) != nil || window <= 0 || time.Duration(window) > maxFlowWindow {
		return fmt.Sprintf("not a window; allowed: a duration such as 15s, up to %v", yamlconf.Duration(maxFlowWindow))
	}
	q.window = time.Duration(window)
	return ""
}
