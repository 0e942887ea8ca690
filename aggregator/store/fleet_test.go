package store

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// t0 is where the tests' time starts, on a whole ten seconds.
var t0 = time.Unix(1_700_000_000, 0)

// clock is a clock that stands still until it is moved.
type clock struct{ now time.Time }

func (c *clock) read() time.Time { return c.now }

// at moves the clock to so many seconds after t0.
func (c *clock) at(seconds float64) { c.now = t0.Add(time.Duration(seconds * float64(time.Second))) }

func newTestStore(change func(*Configuration)) (*Store, *clock) {
	configuration := DefaultConfiguration()
	if change != nil {
		change(&configuration)
	}
	c := &clock{now: t0}
	return New(configuration, c.read), c
}

func key(source, destination string, port uint16) flow.Key {
	return flow.Key{
		Source: netip.MustParseAddr(source).As16(), Destination: netip.MustParseAddr(destination).As16(),
		SourcePort: port, DestinationPort: 443, Protocol: flow.ProtocolTCP,
	}
}

// host makes the epochs of one exporter, half a second each, from t0 on.
type host struct {
	name     string
	networks []netip.Prefix
	offset   time.Duration // of its epochs
	sequence uint64
	epochs   []*epoch.Epoch
}

const epochLength = 500 * time.Millisecond

func newHost(name string, networks ...string) *host {
	h := &host{name: name}
	for _, network := range networks {
		h.networks = append(h.networks, netip.MustParsePrefix(network))
	}
	return h
}

// epoch returns the epoch at so many seconds after t0; those before are made, too.
func (h *host) epoch(seconds float64) *epoch.Epoch {
	at := t0.Add(time.Duration(seconds * float64(time.Second)))
	for len(h.epochs) == 0 || !h.epochs[len(h.epochs)-1].End.After(at) {
		h.sequence++
		end := t0.Add(h.offset + time.Duration(h.sequence)*epochLength)
		h.epochs = append(h.epochs, &epoch.Epoch{
			Host: h.name, Sequence: h.sequence, Start: end.Add(-epochLength), End: end, LocalNetworks: h.networks,
		})
	}
	for _, e := range h.epochs {
		if e.End.After(at) {
			return e
		}
	}
	return nil
}

// sees has the host see a flow at a time.
func (h *host) sees(seconds float64, key flow.Key, bytes uint64) {
	e := h.epoch(seconds)
	e.Flows = append(e.Flows, epoch.Flow{Key: key, Count: epoch.Count{Packets: bytes / 100, Bytes: bytes}})
}

// folds has the host fold bytes into a prefix of either dimension.
func (h *host) folds(seconds float64, class epoch.Class, source, destination string, bytes uint64) {
	e := h.epoch(seconds)
	for d, prefix := range []string{source, destination} {
		e.Ladders = append(e.Ladders, epoch.Ladder{Dimension: flow.Dimension(d), Class: class, Entries: []epoch.Prefix{
			{Prefix: netip.MustParsePrefix(prefix), Count: epoch.Count{Packets: bytes / 100, Bytes: bytes}},
		}})
	}
}

// deliver appends all of the hosts' epochs to the store: each host's in their
// order, the hosts' mixed at random.
func deliver(t *testing.T, r *rand.Rand, s *Store, hosts ...*host) {
	t.Helper()
	next := make(map[*host]int)
	for left := hosts; len(left) > 0; {
		i := r.IntN(len(left))
		h := left[i]
		if next[h] == len(h.epochs) {
			left = append(append([]*host{}, left[:i]...), left[i+1:]...)
			continue
		}
		if next[h] == 0 {
			s.SetUp(h.name, true)
		}
		if err := s.Append(h.name, h.epochs[next[h]]); err != nil {
			t.Fatalf("%s: %v", h.name, err)
		}
		next[h]++
	}
}

// counts returns the bytes of each flow in the last minutes.
func counts(s *Store) map[flow.Key]uint64 {
	by := make(map[flow.Key]uint64)
	for _, r := range s.Last(5 * time.Minute).TopFlows(1 << 20) {
		by[r.Key] = r.Bytes
	}
	return by
}

// want fails unless the store counts just these bytes by flow, and its totals and
// trees say the same.
func want(t *testing.T, s *Store, flows map[flow.Key]uint64) {
	t.Helper()
	var total uint64
	got := counts(s)
	for k, bytes := range flows {
		total += bytes
		if got[k] != bytes {
			t.Errorf("%v to %v port %d has %d bytes, want %d", k.SourceAddr(), k.DestinationAddr(), k.SourcePort, got[k], bytes)
		}
		delete(got, k)
	}
	for k, bytes := range got {
		t.Errorf("%v to %v port %d has %d bytes, want none", k.SourceAddr(), k.DestinationAddr(), k.SourcePort, bytes)
	}
	w := s.Last(5 * time.Minute)
	if w.Counted.Bytes != total {
		t.Errorf("counted %d bytes, want %d", w.Counted.Bytes, total)
	}
	for _, d := range flow.Dimensions {
		if tree := w.Tree(d); tree.Total() != w.Counted {
			t.Errorf("the %s tree has %v, the window %v", d, tree.Total(), w.Counted)
		}
	}
}
