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
		{ProtocolICMP, 8, 0, 0, "unknown"},
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
