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

// HasPorts says whether the ports of the key's protocol are ports.
func (k *Key) HasPorts() bool {
	return k.Protocol == ProtocolTCP || k.Protocol == ProtocolUDP || k.Protocol == protocolSCTP
}

// protocolSCTP is a number of IANA's protocol numbers registry.
const protocolSCTP = 132

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
// it is known, and "unknown" where this package has none.
func (s Service) Name() string {
	if name, ok := serviceNames[s]; ok {
		return name
	}
	return "unknown"
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
	both := map[uint16]string{
		53: "domain", 88: "kerberos", 389: "ldap", 443: "https", 464: "kpasswd",
		853: "domain-s", 2049: "nfs", 3478: "stun", 4789: "vxlan", 5060: "sip",
		5061: "sips", 11211: "memcache",
	}
	for port, name := range both {
		names[Service{ProtocolTCP, port}] = name
		names[Service{ProtocolUDP, port}] = name
	}
	for port, name := range map[uint16]string{
		20: "ftp-data", 21: "ftp", 22: "ssh", 23: "telnet", 25: "smtp", 80: "http",
		110: "pop3", 111: "sunrpc", 135: "epmap", 139: "netbios-ssn", 143: "imap",
		179: "bgp", 445: "microsoft-ds", 465: "submissions", 587: "submission",
		636: "ldaps", 873: "rsync", 993: "imaps", 995: "pop3s", 1433: "ms-sql-s",
		1521: "oracle", 1883: "mqtt", 2379: "etcd-client", 2380: "etcd-server",
		3000: "grafana", 3128: "squid", 3260: "iscsi-target", 3306: "mysql",
		3389: "ms-wbt-server", 5201: "iperf3", 5432: "postgresql", 5672: "amqp",
		5900: "rfb", 6379: "redis", 6443: "kubernetes", 8080: "http-alt",
		8443: "pcsync-https", 8883: "secure-mqtt", 9042: "cassandra",
		9090: "prometheus", 9092: "kafka", 9100: "node-exporter", 9200: "elasticsearch",
		10017: "tma-exporter", 10250: "kubelet", 27017: "mongodb",
	} {
		names[Service{ProtocolTCP, port}] = name
	}
	for port, name := range map[uint16]string{
		67: "bootps", 68: "bootpc", 69: "tftp", 123: "ntp", 137: "netbios-ns",
		138: "netbios-dgm", 161: "snmp", 162: "snmptrap", 500: "isakmp", 514: "syslog",
		520: "rip", 1194: "openvpn", 1812: "radius", 1900: "ssdp", 2055: "netflow",
		3784: "bfd-control", 4500: "ipsec-nat-t", 4739: "ipfix", 5353: "mdns",
		5355: "llmnr", 6081: "geneve", 6343: "sflow", 51820: "wireguard",
	} {
		names[Service{ProtocolUDP, port}] = name
	}
	return names
}
