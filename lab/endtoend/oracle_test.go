package endtoend

import (
	"net/netip"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// heavy is a heavy prefix's bytes, and those that no heavy prefix below it has.
type heavy struct{ bytes, conditioned uint64 }

// heavyPrefixes finds the hierarchical heavy hitters straight from the definition:
// level by level from the longest prefixes, a prefix is heavy if its bytes, less
// those of addresses that are under a heavy prefix already, are at least the share
// phi of all bytes.
func heavyPrefixes(all map[flow.Key]epoch.Count, d flow.Dimension, phi float64) map[string]heavy {
	byAddress := map[netip.Addr]uint64{}
	var total uint64
	for key, c := range all {
		byAddress[key.Addr(d)] += c.Bytes
		total += c.Bytes
	}
	found := map[string]heavy{}
	taken := map[netip.Addr]bool{}
	for _, steps := range [][2]int{{32, 128}, {24, 112}, {16, 96}, {8, 80}, {-1, 64}, {-1, 48}, {-1, 32}, {-1, 16}, {0, 0}} {
		bytes, conditioned, members := map[netip.Prefix]uint64{}, map[netip.Prefix]uint64{}, map[netip.Prefix][]netip.Addr{}
		for address, n := range byAddress {
			bits := steps[1]
			if address.Is4() {
				bits = steps[0]
			}
			if bits < 0 {
				continue
			}
			prefix := netip.PrefixFrom(address, bits).Masked()
			bytes[prefix] += n
			members[prefix] = append(members[prefix], address)
			if !taken[address] {
				conditioned[prefix] += n
			}
		}
		for prefix, n := range conditioned {
			if float64(n) >= phi*float64(total) {
				found[prefix.String()] = heavy{bytes[prefix], n}
				for _, address := range members[prefix] {
					taken[address] = true
				}
			}
		}
	}
	var rest uint64
	for address, n := range byAddress {
		if !taken[address] {
			rest += n
		}
	}
	if float64(rest) >= phi*float64(total) {
		found["all"] = heavy{total, rest}
	}
	return found
}
