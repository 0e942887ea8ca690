package flow

// Service is what a flow talks to: a protocol and a port.
type Service struct {
	Protocol uint8
	Port     uint16 // 0 for protocols without ports and for later fragments
}

// ServiceOf guesses which port of a flow is the service's, since a flow may have
// been seen from its answer alone: the one that is below 1,024 or has a name, if
// only one of both is; else the lower. 0 isn't a port.
func ServiceOf(key *Key) Service {
	s := Service{Protocol: key.Protocol}
	if !key.HasPorts() {
		return s // ICMP has a type and a code there
	}
	source, destination := wellKnown(s.Protocol, key.SourcePort), wellKnown(s.Protocol, key.DestinationPort)
	switch {
	case source && !destination:
		s.Port = key.SourcePort
	case destination && !source:
		s.Port = key.DestinationPort
	default:
		s.Port = min(key.SourcePort-1, key.DestinationPort-1) + 1 // 0 wraps around to the greatest number
	}
	return s
}

// Further numbers of IANA's protocol numbers registry.
const (
	protocolDCCP    = 33
	protocolSCTP    = 132
	protocolUDPLite = 136
)

// HasPorts says whether the ports of the key's protocol are ports.
func (k *Key) HasPorts() bool { return hasPorts(k.Protocol) }

func hasPorts(protocol uint8) bool {
	switch protocol {
	case ProtocolTCP, ProtocolUDP, protocolDCCP, protocolSCTP, protocolUDPLite:
		return true
	}
	return false
}

// systemPorts are those below, which ordinary clients don't use (RFC 6335).
const systemPorts = 1024

// wellKnown says whether a port is one that services rather than clients have.
func wellKnown(protocol uint8, port uint16) bool {
	if port < systemPorts {
		return port != 0
	}
	switch protocol {
	case ProtocolTCP:
		return namedPorts[0][port/64]>>(port%64)&1 != 0
	case ProtocolUDP:
		return namedPorts[1][port/64]>>(port%64)&1 != 0
	}
	return false
}

// Name returns the name that IANA registered for the service, or the one by which
// it is known, and "unknown" where this package has none. What has no ports is called
// as its protocol is.
func (s Service) Name() string {
	if name, ok := serviceNames[s]; ok {
		return name
	}
	if !hasPorts(s.Protocol) {
		return ProtocolName(s.Protocol)
	}
	return "unknown"
}

// Named returns the service if it has a name, else all of its protocol's that have
// none, as that with port 0.
func (s Service) Named() Service {
	if _, ok := serviceNames[s]; ok {
		return s
	}
	return Service{Protocol: s.Protocol}
}

// serviceNames are those that show up most, not the registry.
var serviceNames = makeServiceNames()

// namedPorts has a bit for each port of TCP and of UDP that has a name: it is asked
// for every flow.
var namedPorts = makeNamedPorts()

func makeNamedPorts() (ports [2][1 << 16 / 64]uint64) {
	for service := range serviceNames {
		i := 0
		if service.Protocol == ProtocolUDP {
			i = 1
		}
		ports[i][service.Port/64] |= 1 << (service.Port % 64)
	}
	return ports
}

func makeServiceNames() map[Service]string {
	names := map[Service]string{}
	for port, name := range portNames {
		names[Service{ProtocolTCP, port}] = name
		names[Service{ProtocolUDP, port}] = name
	}
	for port, name := range tcpNames {
		names[Service{ProtocolTCP, port}] = name
	}
	for port, name := range udpNames {
		names[Service{ProtocolUDP, port}] = name
	}
	for port, name := range sctpNames {
		names[Service{protocolSCTP, port}] = name
	}
	return names
}
