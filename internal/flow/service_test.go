package flow

import "testing"

func TestServiceOf(t *testing.T) {
	for _, test := range []struct {
		protocol            uint8
		source, destination uint16
		port                uint16
		name                string
	}{
		{ProtocolTCP, 40000, 443, 443, "https"},
		{ProtocolTCP, 443, 40000, 443, "https"},
		{ProtocolTCP, 40000, 5432, 5432, "postgresql"},
		{ProtocolTCP, 2000, 5432, 5432, "postgresql"}, // named, though not the lower
		{ProtocolUDP, 2000, 5432, 2000, "unknown"},    // not named under UDP
		{ProtocolTCP, 50000, 40000, 40000, "unknown"}, // neither: the lower
		{ProtocolUDP, 123, 123, 123, "ntp"},
		{ProtocolTCP, 443, 22, 22, "ssh"}, // both: the lower
		{ProtocolICMP, 8, 0, 0, "icmp"},   // a type and a code
		{ProtocolICMPv6, 128, 0, 0, "ipv6-icmp"},
		{50, 0, 0, 0, "esp"},
		{250, 0, 0, 0, "250"},
		{protocolSCTP, 40000, 38412, 38412, "ng-control"},
		{protocolUDPLite, 40000, 5000, 5000, "unknown"},
		{ProtocolUDP, 50000, 443, 443, "quic"},
		{ProtocolUDP, 853, 50000, 853, "domain-s"},
		{ProtocolUDP, 51820, 49000, 51820, "wireguard"},
		{ProtocolUDP, 51820, 51820, 51820, "wireguard"},
		{ProtocolUDP, 61000, 4789, 4789, "vxlan"},
		{ProtocolTCP, 6443, 33000, 6443, "kubernetes"},
		{ProtocolTCP, 2379, 33000, 2379, "etcd-client"},
		{ProtocolTCP, 33060, 45000, 33060, "mysqlx"},
		{ProtocolUDP, 0, 53, 53, "domain"}, // 0 isn't a port
		{ProtocolUDP, 0, 0, 0, "unknown"},  // a later fragment
	} {
		key := Key{Protocol: test.protocol, SourcePort: test.source, DestinationPort: test.destination}
		s := ServiceOf(&key)
		if s != (Service{test.protocol, test.port}) || s.Name() != test.name {
			t.Errorf("%+v: got %v, %s", test, s, s.Name())
		}
	}
}

func TestNamed(t *testing.T) {
	for service, want := range map[Service]Service{
		{ProtocolTCP, 443}:   {ProtocolTCP, 443},
		{ProtocolTCP, 40000}: {ProtocolTCP, 0},
		{ProtocolTCP, 1000}:  {ProtocolTCP, 0}, // a system port without a name
		{ProtocolICMP, 0}:    {ProtocolICMP, 0},
	} {
		if got := service.Named(); got != want {
			t.Errorf("%v: got %v, want %v", service, got, want)
		}
	}
}
