package window

import (
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/networks"
)

// Named is a Top of names instead of addresses and ports. However long it goes on and
// whatever the traffic is, there are no more keys than names.
type Named struct {
	Pairs        Ranking[NetworkPair]
	Sources      Ranking[string] // names of networks, networks.Unnamed among them
	Destinations Ranking[string]
	Services     Ranking[flow.Service] // as flow.Service.Named returns them
}

// NetworkPair is where traffic goes from and to, by the names of networks.
type NetworkPair struct{ Source, Destination string }

// pairRoom is that of the table by which a pane's pairs are summed: every pair of 64
// names fits.
const pairRoom = 1 << 12

// named makes a Named. Networks and services are few, so they are summed exactly.
// What was folded counts for a network as long as its prefix tells which one.
type named struct {
	table     *networks.Table
	pairs     candidates[numberPair]
	addresses [2][]epoch.Count // by dimension and number
	services  map[flow.Service]epoch.Count
	unknown   [2]uint64 // bytes folded to prefixes that tell no network, by dimension

	pairRanking     ranking[NetworkPair]
	addressRankings [2]ranking[string] // by dimension
	serviceRanking  ranking[flow.Service]
}

// numberPair are the numbers of two networks in a table.
type numberPair struct{ source, destination uint16 }

func hashPair(p numberPair, s *hashSeed) uint64 {
	return fold64(fold64(uint64(p.source)<<16^uint64(p.destination)^s[0], s[1]|1)^s[2], s[3]|1)
}

// newNamed returns a named in whose window nothing is known of the panes so far.
func newNamed(k int, t *TopK) *named {
	n := &named{
		pairs:          newCandidates(pairRoom, hashPair),
		services:       map[flow.Service]epoch.Count{},
		pairRanking:    newRanking[NetworkPair](k, t.window),
		serviceRanking: newRanking[flow.Service](k, t.window),
	}
	for d := range n.addressRankings {
		n.addressRankings[d] = newRanking[string](k, t.window)
	}
	for _, p := range t.panes {
		lacks := limits{missed: p.total.Bytes}
		n.pairRanking.push(pane[NetworkPair]{limits: lacks, span: p.span})
		n.serviceRanking.push(pane[flow.Service]{limits: lacks, span: p.span})
		for d := range n.addressRankings {
			n.addressRankings[d].push(pane[string]{limits: lacks, span: p.span})
		}
	}
	return n
}

// setTable takes the names that hold from the next pane on. Names that were there
// before keep their traffic.
func (n *named) setTable(table *networks.Table) {
	n.table = table
	for d := range n.addresses {
		n.addresses[d] = make([]epoch.Count, table.Len())
	}
}

// add counts an epoch.
func (n *named) add(e *epoch.Epoch) {
	for i := range e.Flows {
		f := &e.Flows[i]
		pair := numberPair{n.table.Lookup(f.SourceAddr()), n.table.Lookup(f.DestinationAddr())}
		n.pairs.add(pair, f.Count)
		n.addresses[flow.Source][pair.source].Add(f.Count)
		n.addresses[flow.Destination][pair.destination].Add(f.Count)
		service := flow.ServiceOf(&f.Key).Named()
		sum := n.services[service]
		sum.Add(f.Count)
		n.services[service] = sum
	}
	for i := range e.Ladders {
		n.addFolded(&e.Ladders[i])
	}
}

func (n *named) addFolded(l *epoch.Ladder) {
	for _, p := range l.Entries {
		if number, ok := n.table.LookupPrefix(p.Prefix); ok {
			n.addresses[l.Dimension][number].Add(p.Count)
		} else {
			n.unknown[l.Dimension] += p.Bytes
		}
	}
}

// closePane ends a pane, which is the last one of those of t; keep and scratch are as
// in candidates.take.
func (n *named) closePane(p *paneBounds, keep int, scratch []uint64) []uint64 {
	scratch = n.closePairs(p, keep, scratch)
	for d := range n.addressRankings {
		n.closeAddresses(flow.Dimension(d), p)
	}
	services := pane[flow.Service]{limits: limits{missed: p.services.missed}, span: p.span}
	for service, count := range n.services {
		services.largest = append(services.largest, counted[flow.Service]{service, count})
	}
	clear(n.services)
	n.serviceRanking.push(services)
	return scratch
}

func (n *named) closePairs(p *paneBounds, keep int, scratch []uint64) []uint64 {
	taken, scratch := n.pairs.take(keep, n.chosen, scratch)
	pairs := pane[NetworkPair]{limits: taken.limits, span: p.span}
	pairs.missed += p.services.missed // nothing that is folded is a pair either
	for _, c := range taken.largest {
		pair := NetworkPair{n.table.Name(c.key.source), n.table.Name(c.key.destination)}
		pairs.largest = append(pairs.largest, counted[NetworkPair]{pair, c.Count})
	}
	n.pairRanking.push(pairs)
	return scratch
}

// chosen yields the pairs that are entries, as far as their names are still there.
func (n *named) chosen(yield func(numberPair) bool) {
	for pair := range n.pairRanking.entries {
		source, ok := n.table.Number(pair.Source)
		destination, ok2 := n.table.Number(pair.Destination)
		if ok && ok2 && !yield(numberPair{source, destination}) {
			return
		}
	}
}

func (n *named) closeAddresses(d flow.Dimension, p *paneBounds) {
	sums := n.addresses[d]
	addresses := pane[string]{limits: limits{missed: p.remainder + n.unknown[d]}, span: p.span}
	for number, count := range sums {
		if count != (epoch.Count{}) {
			addresses.largest = append(addresses.largest, counted[string]{n.table.Name(uint16(number)), count})
		}
	}
	clear(sums)
	n.unknown[d] = 0
	n.addressRankings[d].push(addresses)
}

// pop takes the oldest pane away.
func (n *named) pop() {
	n.pairRanking.pop()
	n.serviceRanking.pop()
	for d := range n.addressRankings {
		n.addressRankings[d].pop()
	}
}

func (n *named) rank(total epoch.Count) *Named {
	return &Named{
		Pairs:        n.pairRanking.rank(total),
		Sources:      n.addressRankings[flow.Source].rank(total),
		Destinations: n.addressRankings[flow.Destination].rank(total),
		Services:     n.serviceRanking.rank(total),
	}
}
