package collector

import (
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// goneAfter is how long the counters of a device stay that isn't captured on any
// more: long enough for the last scrape of them, short enough that the names of
// short-lived devices don't pile up.
const goneAfter = 5 * time.Minute

// totals accumulates epochs to counters. All that it holds is as of the end of
// the same epoch.
type totals struct {
	mu          sync.Mutex
	devices     map[deviceKey]*deviceTotals
	folded      map[foldedKey]epoch.Count
	flows       epoch.Count // under a 5-tuple
	unaccounted epoch.Count
	doubtful    epoch.Count
	hidden      epoch.Count
	epochs      uint64
}

type deviceKey struct {
	name      string
	direction flow.Direction
}

// deviceTotals is what a device saw in one direction since created.
type deviceTotals struct {
	created, seen               time.Time
	total, duplicate, remainder epoch.Count
	others                      map[string]epoch.Count // by reason
}

// foldedKey is one step of the ladders of a dimension.
type foldedKey struct {
	dimension flow.Dimension
	ipv4      bool
	bits      int
}

func newTotals() *totals {
	return &totals{devices: map[deviceKey]*deviceTotals{}, folded: map[foldedKey]epoch.Count{}}
}

// add accumulates an epoch.
func (t *totals) add(e *epoch.Epoch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.epochs++
	for i := range e.Devices {
		t.addDevice(e, &e.Devices[i])
	}
	var flows epoch.Count
	for i := range e.Flows {
		flows.Add(e.Flows[i].Count)
		t.doubtful.Add(e.Flows[i].Doubts())
	}
	t.flows.Add(flows)
	for i := range e.Ladders {
		t.addLadder(&e.Ladders[i])
	}
	t.unaccounted.Add(unaccounted(e, flows))
	t.doubtful.Add(e.Doubtful)
	t.hidden.Add(e.Hidden)
	maps.DeleteFunc(t.devices, func(_ deviceKey, d *deviceTotals) bool { return e.End.Sub(d.seen) > goneAfter })
}

func (t *totals) addDevice(e *epoch.Epoch, d *epoch.Device) {
	key := deviceKey{printable(d.Name), d.Direction}
	sum, ok := t.devices[key]
	if !ok {
		sum = &deviceTotals{created: e.Start, others: map[string]epoch.Count{}}
		t.devices[key] = sum
	}
	sum.seen = e.End
	sum.total.Add(d.Total)
	sum.duplicate.Add(d.Duplicate)
	sum.remainder.Add(d.Remainder)
	for _, other := range d.Others {
		count := sum.others[other.Reason]
		count.Add(other.Count)
		sum.others[other.Reason] = count
	}
}

// printable makes a device's name fit for a label: the kernel takes any bytes for
// a name, Prometheus only UTF-8.
func printable(name string) string { return strings.ToValidUTF8(name, "\ufffd") }

func (t *totals) addLadder(l *epoch.Ladder) {
	for i := range l.Entries {
		entry := &l.Entries[i]
		key := foldedKey{l.Dimension, entry.Addr().Is4(), entry.Bits()}
		count := t.folded[key]
		count.Add(entry.Count)
		t.folded[key] = count
	}
}

// unaccounted is by how much the two sides of an epoch differ, in the dimension
// where it is more, whichever side is greater. Its flows are summed up already.
func unaccounted(e *epoch.Epoch, flows epoch.Count) epoch.Count {
	var most epoch.Count
	for _, dimension := range flow.Dimensions {
		left := e.UnaccountedBeside(flows, dimension)
		most.Packets = max(most.Packets, magnitude(left.Packets))
		most.Bytes = max(most.Bytes, magnitude(left.Bytes))
	}
	return most
}

// magnitude is the absolute value of a difference that may have wrapped around.
func magnitude(difference uint64) uint64 { return min(difference, -difference) }

// snapshot returns a copy that nobody writes to.
func (t *totals) snapshot() *totals {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &totals{
		devices:     make(map[deviceKey]*deviceTotals, len(t.devices)),
		folded:      maps.Clone(t.folded),
		flows:       t.flows,
		unaccounted: t.unaccounted,
		doubtful:    t.doubtful,
		hidden:      t.hidden,
		epochs:      t.epochs,
	}
	for key, d := range t.devices {
		device := *d
		device.others = maps.Clone(d.others)
		c.devices[key] = &device
	}
	return c
}
