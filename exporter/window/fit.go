package window

import (
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/fold"
)

// maxMessageBytes is the size of a Message with at most a thousand flows, whatever
// the traffic: with what HTTP adds, 128 KiB a second at two epochs a second. Who
// configures more flows gets as much more.
const maxMessageBytes = 64<<10 - 512

// maxFits is how often an epoch is made smaller before only its totals and sketches
// are left: the costs of the last epoch tell those of the next well.
const maxFits = 6

// fitter makes epochs small enough to go out, by folding more of them: first what
// ladders hold into shorter prefixes, and flows where they take more than half of
// what there is.
type fitter struct {
	ladders *fold.Ladders
	flows   []epoch.Flow
	scratch []uint64
	cost    costs
}

// costs are bytes of a Message, as the last epoch had them.
type costs struct {
	other        float64
	flow, prefix float64 // each
}

// learn takes the costs of what was sent from its sizes.
func (c *costs) learn(sent *epoch.Epoch, s *sizes) {
	c.other = float64(s[epoch.PartOther] + s[epoch.PartSketch])
	if n := len(sent.Flows); n > 0 {
		c.flow = float64(s[epoch.PartFlows]) / float64(n)
	}
	if n := prefixes(sent.Ladders, noRoom); n > 0 {
		c.prefix = float64(s[epoch.PartLadder]) / float64(n)
	}
}

// noRoom is a level's room where it isn't bounded.
const noRoom = 1 << 30

// prefixes is how many entries ladders have if each level keeps at most room. A level
// is the entries of one length and family, which stand together.
func prefixes(ladders []epoch.Ladder, room int) (n int) {
	for i := range ladders {
		entries := ladders[i].Entries
		for first := 0; first < len(entries); {
			end := first + 1
			for end < len(entries) && entries[end].Bits() == entries[first].Bits() && entries[end].Addr().Is4() == entries[first].Addr().Is4() {
				end++
			}
			n += min(room, end-first)
			first = end
		}
	}
	return n
}

// plan returns how many flows of an epoch, and prefixes of each level of its ladders,
// are expected to fit into so many bytes.
func (c *costs) plan(e *epoch.Epoch, limit float64) (flows, room int) {
	flows, room = len(e.Flows), ladderEntries
	left := limit - c.other
	if c.flow*float64(flows)+c.prefix*float64(prefixes(e.Ladders, noRoom)) <= left {
		return flows, room
	}
	if c.flow*float64(flows) > left/2 {
		flows = max(1, int(left/2/c.flow))
	}
	left -= c.flow * float64(flows)
	for room > 1 && c.prefix*float64(prefixes(e.Ladders, room)) > left {
		room -= (room + 15) / 16
	}
	return flows, room
}

// fold returns the epoch with so many flows and prefixes, everything else folded into
// those. What it returns is valid until the next call, and may be e itself.
func (f *fitter) fold(e *epoch.Epoch, flows, room int, classifier *fold.Classifier) *epoch.Epoch {
	if flows == len(e.Flows) && room == ladderEntries {
		return e
	}
	f.ladders.Reset()
	f.ladders.Resize(room)
	f.ladders.AddPrefixes(e.Ladders)
	fitting := *e
	f.flows, f.scratch = keepLargest(f.flows[:0], f.scratch, e.Flows, flows, f.ladders, classifier, &fitting.Doubtful)
	fitting.Flows, fitting.Ladders = f.flows, f.ladders.Snapshot()
	return &fitting
}
