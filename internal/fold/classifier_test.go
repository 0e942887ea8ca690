package fold

import (
	"net/netip"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// However many networks are local, the classes are the same.
func TestClassesOfManyNetworks(t *testing.T) {
	few := Classifier{
		Local: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16"), netip.MustParsePrefix("fd00::1/128")},
		Fleet: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/64")},
	}
	many := Classifier{Fleet: few.Fleet, Local: few.Local[1:]}
	for i := range 256 {
		many.Local = append(many.Local, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 0}), 24))
	}
	addresses := []string{"10.0.7.1", "10.1.0.1", "192.0.2.1", "fd00::1", "fd00::2", "2001:db8::1"}
	classes := make(map[epoch.Class]int)
	for _, source := range addresses {
		for _, destination := range addresses {
			key := flow.Key{Source: netip.MustParseAddr(source).As16(), Destination: netip.MustParseAddr(destination).As16()}
			want := few.Class(&key)
			classes[want]++
			if got := many.Class(&key); got != want {
				t.Errorf("%s to %s is of class %d, want %d", source, destination, got, want)
			}
		}
	}
	if len(classes) != 3 {
		t.Errorf("classes %v", classes)
	}
}
