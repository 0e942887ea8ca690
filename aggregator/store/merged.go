package store

import (
	"net/netip"
	"slices"
	"time"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/fold"
)

// An aggregator is scraped like an exporter: each second is one epoch, with what its
// hosts count in it. To the one above, it is a host whose networks are those of all
// its hosts that cover the second, and the same rules decide between it and others:
//
//   - A flow of which no host here has the source is handed on, and drops out above
//     if another aggregator's host has it.
//   - What is folded stays in its class: what hosts here only stand in for is still
//     the fleet's, and counts above if nobody else has it.
//   - What is uncertain here nobody above can decide either: with what arrives too
//     late for its second it is a remainder, which widens every interval.
//   - What a host counted in a second near which its exporter started or died may be
//     counted by another aggregator, as that host's networks aren't among those of
//     this second. So it is doubtful.

// mergedEpochs is what is handed on.
type mergedEpochs struct {
	ready    []*epoch.Epoch
	sequence uint64
	second   int64       // the last one that was handed on
	late     epoch.Count // came after that
}

// mergedLadders is the room of a level of a merged epoch's ladders.
const mergedLadders = 1024

// Merged returns the epochs of the seconds that have come of age since the last
// call, oldest first. The caller owns them.
func (s *Store) Merged() []*epoch.Epoch {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.maintain(s.now())
	ready := s.merged.ready
	s.merged.ready = nil
	return ready
}

// notice notes an epoch of a bucket that was handed on before it came.
func (m *mergedEpochs) notice(b *bucket, e *epoch.Epoch) {
	if b.merged {
		m.miss(e)
	}
}

// miss adds what an epoch may count to what came too late.
func (m *mergedEpochs) miss(e *epoch.Epoch) {
	for i := range e.Flows {
		m.late.Add(e.Flows[i].Count)
	}
	m.late.Add(e.Folded(flow.Source))
	m.late.Add(e.Remainder())
}

// mergeDue hands on what is old enough, in the order of time.
func (s *Store) mergeDue(now time.Time) {
	for _, b := range s.buckets {
		if !b.open || b.merged {
			continue
		}
		if now.Before(later(b.to(), b.opened).Add(s.configuration.MergedAfter)) {
			return
		}
		s.merge(b)
	}
}

// merge hands a bucket on, once.
func (s *Store) merge(b *bucket) {
	if s.configuration.MergedAfter == 0 || b.merged {
		return
	}
	b.merged = true
	m := &s.merged
	if m.sequence > 0 && b.start < m.second {
		for i := range b.epochs {
			m.miss(b.epochs[i].unpack())
		}
		return
	}
	m.sequence++
	m.second = b.start
	e := s.mergedEpoch(b)
	e.Sequence = m.sequence
	e.Devices = append(e.Devices, epoch.Device{Name: "late", Total: m.late, Remainder: m.late})
	m.late = epoch.Count{}
	m.ready = append(m.ready, e)
}

// mergedEpoch makes the epoch of an open bucket.
func (s *Store) mergedEpoch(b *bucket) *epoch.Epoch {
	c := s.sumOfHosts(b)
	e := &epoch.Epoch{
		Start: b.from(), End: b.to(), LocalNetworks: s.networksOf(b), Ladders: c.ladders.Snapshot(),
		Hidden: c.hiddenCount, Exporters: s.below(),
	}
	folded := e.Folded(flow.Source)
	e.Doubtful = epoch.Count{Packets: min(c.foldedDoubts.Packets, folded.Packets), Bytes: min(c.foldedDoubts.Bytes, folded.Bytes)}
	e.Flows = mergedFlows(c.flows, folded.Bytes+e.Hidden.Bytes)
	counted := folded
	for i := range e.Flows {
		counted.Add(e.Flows[i].Count)
	}
	e.Devices = []epoch.Device{
		{Name: "counted", Total: counted},
		{Name: "hidden", Total: e.Hidden, Duplicate: e.Hidden},
		{Name: "remainder", Total: c.remainder, Remainder: c.remainder},
		{Name: "uncertain", Total: c.uncertain, Remainder: c.uncertain},
	}
	sketches := make(distinct) // those of the bucket go on changing
	sketches.union(b.distinct)
	for of, sketch := range sketches {
		e.Sketches = append(e.Sketches, epoch.Sketch{Of: of, KeyFingerprint: s.key.fingerprint, HLL: sketch})
	}
	return e
}

// below counts the exporters, those below aggregators included. Nobody knows whether
// these are up if their aggregator isn't.
func (s *Store) below() (sum epoch.Exporters) {
	for _, x := range s.exporters {
		of := x.below
		if of.Known == 0 {
			of = epoch.Exporters{Known: 1, Up: 1}
		}
		sum.Known += of.Known
		if x.up {
			sum.Up += of.Up
		}
	}
	return sum
}

// Below returns the exporters below each target that is an aggregator.
func (s *Store) Below() map[string]epoch.Exporters {
	s.mu.Lock()
	defer s.mu.Unlock()
	below := make(map[string]epoch.Exporters)
	for _, x := range s.exporters {
		if x.below.Known > 0 {
			below[x.name] = x.below
		}
	}
	return below
}

// steady says that the store has all that a host saw in a second and around it, as far
// as epochs that are in the second's bucket may reach.
func (x *exporter) steady(b *bucket) bool {
	const reach = maxBorderEpoch / 2
	read := *x
	read.up = false // what is still to come can't be relied on
	return read.coverage(span{b.from().Add(-reach), b.to().Add(reach)}) == wholly
}

// sumOfHosts is what the hosts count in a bucket, before any of it folds for want of
// room here.
type sumOfHosts struct {
	content
	ladders      *fold.Ladders // the hosts' own classes, and those for which they stand in
	foldedDoubts epoch.Count   // of the ladders: may be counted twice, here or above
	hiddenCount  epoch.Count
}

// sumOfHosts adds up the epochs of a bucket, one after the other.
func (s *Store) sumOfHosts(b *bucket) *sumOfHosts {
	sum := &sumOfHosts{ladders: fold.NewLadders(mergedLadders)}
	r := s.resolution(b)
	combined := 0
	for i := range b.epochs {
		sum.add(r, b, &b.epochs[i])
		if len(sum.flows) > 2*combined+maxFresh {
			sum.flows = combineFlows(sum.flows)
			combined = len(sum.flows)
		}
	}
	sum.flows = combineFlows(sum.flows)
	return sum
}

// add adds what its host counts of an epoch. All of it is doubtful if the exporter
// isn't steady.
func (c *sumOfHosts) add(r *resolution, b *bucket, h *held) {
	e, before := h.unpack(), len(c.flows)
	r.add(&c.content, h.exporter, e)
	own := epoch.Epoch{Ladders: ofClass(e, epoch.Own)}
	c.ladders.AddPrefixes(own.Ladders)
	c.ladders.AddPrefixes(c.standIns)
	c.hiddenCount.Add(e.Hidden)
	// The ladders have them.
	c.standIns, c.masses = nil, [len(flow.Dimensions)][]hhh.Mass{}
	if h.exporter.steady(b) {
		c.foldedDoubts.Add(e.Doubtful)
		return
	}
	c.foldedDoubts.Add(own.Folded(flow.Source))
	for i := before; i < len(c.flows); i++ {
		c.flows[i].doubtful = c.flows[i].Bytes
	}
}

func ofClass(e *epoch.Epoch, class epoch.Class) (found []epoch.Ladder) {
	for _, ladder := range e.Ladders {
		if ladder.Class == class {
			found = append(found, ladder)
		}
	}
	return found
}

// mergedFlows are those that hosts count. So many bytes are elsewhere.
func mergedFlows(flows []counted, elsewhere uint64) []epoch.Flow {
	to := make([]epoch.Flow, len(flows))
	for i := range flows {
		to[i] = epoch.Flow{
			Key: flows[i].Key, Count: flows[i].Count, Doubtful: flows[i].doubtful,
			Error: elsewhere - min(elsewhere, flows[i].spared),
		}
	}
	return to
}

// networksOf returns the networks that hosts had all through a second in which they are
// steady, as few as there can be of the same addresses.
func (s *Store) networksOf(b *bucket) []netip.Prefix {
	had := make(map[*exporter][]netip.Prefix)
	for _, h := range b.epochs {
		networks, known := had[h.exporter]
		switch {
		case known:
			networks = slices.DeleteFunc(networks, func(p netip.Prefix) bool { return !slices.Contains(h.networks, p) })
		case h.exporter.steady(b):
			networks = slices.Clone(h.networks)
		}
		had[h.exporter] = networks
	}
	var all []netip.Prefix
	for _, networks := range had {
		for _, network := range networks {
			if identifies(network) {
				all = append(all, network.Masked())
			}
		}
	}
	return summarize(all)
}

// summarize returns the fewest prefixes with the same addresses, ordered: hosts have
// neighbouring addresses, and each network is in every epoch. It reorders all.
func summarize(all []netip.Prefix) []netip.Prefix {
	slices.SortFunc(all, netip.Prefix.Compare)
	var few []netip.Prefix
	for _, p := range all {
		if n := len(few); n > 0 && few[n-1].Bits() <= p.Bits() && few[n-1].Contains(p.Addr()) {
			continue
		}
		few = append(few, p)
		for n := len(few); n > 1; n = len(few) {
			parent, same := joined(few[n-2], few[n-1])
			if !same {
				break
			}
			few = append(few[:n-2], parent)
		}
	}
	return few
}

// joined returns the prefix of which two are the halves, if there is one.
func joined(a, b netip.Prefix) (netip.Prefix, bool) {
	if a.Bits() != b.Bits() || a.Bits() < 2 {
		return netip.Prefix{}, false
	}
	parent := netip.PrefixFrom(a.Addr(), a.Bits()-1).Masked()
	return parent, a != b && parent.Addr().BitLen() == b.Addr().BitLen() && parent.Contains(b.Addr())
}
