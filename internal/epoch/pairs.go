package epoch

import "github.com/traffic-monitor-agent/tma/internal/flow"

// reversed is the bit of the column of directions that says that a flow is the
// reverse of the one in front of it, and has no key of its own there.
const reversed = 1 << 1

// reverse is the key of what goes the other way.
func reverse(k *flow.Key) flow.Key {
	return flow.Key{
		Source: k.Destination, Destination: k.Source,
		SourcePort: k.DestinationPort, DestinationPort: k.SourcePort,
		Protocol: k.Protocol,
	}
}

// pair is one or two flows by their index; second is -1 or the reverse of first.
type pair struct{ first, second int }

// pairUp joins flows with their reverses, in the order of the first of each.
func pairUp(flows []Flow) []pair {
	at := make(map[flow.Key]int, len(flows)) // those that have no reverse yet
	all := make([]pair, 0, len(flows))
	for i := range flows {
		key := reverse(&flows[i].Key)
		if first, ok := at[key]; ok {
			all[first].second = i
			delete(at, key)
			continue
		}
		at[flows[i].Key] = len(all)
		all = append(all, pair{i, -1})
	}
	return all
}
