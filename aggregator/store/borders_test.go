package store

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/fold"
)

// mortal is a host whose exporter runs some of the time, with epochs of its own
// length.
type mortal struct {
	name     string
	networks []netip.Prefix
	length   time.Duration
	lives    []run
	epochs   [][]*epoch.Epoch // by life
}

// newMortal draws up to three lives within eighteen seconds.
func newMortal(r *rand.Rand, name string, networks ...string) *mortal {
	m := &mortal{name: name, length: time.Duration(300+r.IntN(700)) * time.Millisecond}
	for _, network := range networks {
		m.networks = append(m.networks, netip.MustParsePrefix(network))
	}
	at := time.Duration(r.IntN(6000)) * time.Millisecond
	if r.IntN(3) == 0 {
		at = 0
	}
	for at < 17*time.Second && len(m.lives) < 3 {
		end := at + time.Duration((1+r.Float64()*10)*float64(time.Second))
		m.lives = append(m.lives, run{from: t0.Add(at), to: t0.Add(min(end, 20*time.Second))})
		at = end + time.Duration(r.IntN(4000))*time.Millisecond
	}
	for _, life := range m.lives {
		m.epochs = append(m.epochs, m.live(life))
	}
	return m
}

// live makes the epochs of a life; the last one is shorter.
func (m *mortal) live(life run) (epochs []*epoch.Epoch) {
	for start := life.from; start.Before(life.to); start = start.Add(m.length) {
		epochs = append(epochs, &epoch.Epoch{
			Host: m.name, Sequence: uint64(len(epochs) + 1), LocalNetworks: m.networks,
			Start: start, End: earlier(start.Add(m.length), life.to),
		})
	}
	return epochs
}

// at returns the epoch at a time, nil if the exporter was dead.
func (m *mortal) at(at time.Time) *epoch.Epoch {
	for _, life := range m.epochs {
		for _, e := range life {
			if !at.Before(e.Start) && at.Before(e.End) {
				return e
			}
		}
	}
	return nil
}

// steadyAt says that the exporter is alive or dead all around a time.
func (m *mortal) steadyAt(at time.Time) bool {
	return !slices.ContainsFunc(m.lives, func(life run) bool {
		return at.Sub(life.from).Abs() < 1100*time.Millisecond || at.Sub(life.to).Abs() < 1100*time.Millisecond
	})
}

// see counts a packet in an epoch.
func seeFlow(e *epoch.Epoch, k flow.Key, c epoch.Count) {
	i := slices.IndexFunc(e.Flows, func(f epoch.Flow) bool { return f.Key == k })
	if i < 0 {
		e.Flows = append(e.Flows, epoch.Flow{Key: k})
		i = len(e.Flows) - 1
	}
	e.Flows[i].Add(c)
}

// forget folds some flows of an epoch, and parts of others.
func forget(r *rand.Rand, e *epoch.Epoch, fleet []netip.Prefix) {
	classifier, ladders := fold.Classifier{Local: e.LocalNetworks, Fleet: fleet}, fold.NewLadders(1+r.IntN(3))
	var kept []epoch.Flow
	for _, f := range e.Flows {
		if transitOf(f.Key) || r.IntN(2) == 0 { // of transit's folds nobody can tell whose they are
			kept = append(kept, f)
			continue
		}
		folded := f.Count
		if r.IntN(2) == 0 {
			folded = epoch.Count{Packets: f.Packets / 2, Bytes: f.Bytes / 2}
			f.Sub(folded)
			f.Error = folded.Bytes + r.Uint64N(100)
			kept = append(kept, f)
		}
		ladders.Add(classifier.Class(&f.Key), &f.Key, folded)
	}
	e.Flows, e.Ladders = kept, ladders.Snapshot()
}

var foreign = netip.MustParsePrefix("192.0.2.0/24")

func transitOf(k flow.Key) bool {
	return foreign.Contains(k.SourceAddr()) && foreign.Contains(k.DestinationAddr())
}

// mortals is a fleet of which two hosts see much that passes.
type mortals struct {
	hosts     []*mortal
	truth     map[flow.Key]epoch.Count
	undecided map[flow.Key]bool // packets near the end of a life
}

func newMortals(r *rand.Rand) *mortals {
	f := &mortals{truth: make(map[flow.Key]epoch.Count), undecided: make(map[flow.Key]bool)}
	f.hosts = append(f.hosts, newMortal(r, "router-1", "10.9.0.1/32"), newMortal(r, "router-2", "10.9.0.2/32"))
	for n := range 1 + r.IntN(4) {
		f.hosts = append(f.hosts, newMortal(r, fmt.Sprint("host-", n), fmt.Sprintf("10.0.0.%d/32", n), fmt.Sprintf("10.1.%d.0/24", n)))
	}
	return f
}

// path returns the hosts that see a packet, and its flow.
func (f *mortals) path(r *rand.Rand) (k flow.Key, path []*mortal) {
	address := func() string {
		n := r.IntN(5)
		host := min(n+2, len(f.hosts))
		path = append(path, f.hosts[host:min(host+1, len(f.hosts))]...)
		switch {
		case host == len(f.hosts):
			return fmt.Sprintf("192.0.2.%d", n)
		case r.IntN(2) == 0:
			return fmt.Sprintf("10.0.0.%d", n)
		}
		return fmt.Sprintf("10.1.%d.%d", n, r.IntN(3))
	}
	k = key(address(), address(), uint16(r.IntN(3)))
	for i, router := range f.hosts[:2] {
		if (int(k.Source[15])+int(k.Destination[15])+i)%3 > 0 {
			path = append(path, router)
		}
	}
	slices.SortFunc(path, func(a, b *mortal) int { return slices.Index(f.hosts, a) - slices.Index(f.hosts, b) })
	return k, slices.Compact(path)
}

// send sends one packet; it is in the truth if anybody sees it.
func (f *mortals) send(r *rand.Rand) {
	k, path := f.path(r)
	at := t0.Add(time.Duration(r.Float64() * 19 * float64(time.Second)))
	c := epoch.Count{Packets: 2, Bytes: 200 + r.Uint64N(1000)}
	seen := false
	for _, h := range path {
		if e := h.at(at); e != nil {
			seeFlow(e, k, c)
			seen = true
		}
		if !h.steadyAt(at) {
			f.undecided[k] = true
		}
	}
	if sum := f.truth[k]; seen {
		sum.Add(c)
		f.truth[k] = sum
	}
}

// delivery is what an exporter's scraper tells the store.
type delivery struct {
	at   time.Time
	name string
	up   bool
	*epoch.Epoch
}

// deliveries lists them in the order of time: epochs when they end, deaths up to
// three seconds after.
func (f *mortals) deliveries(r *rand.Rand) (all []delivery) {
	for _, h := range f.hosts {
		for i, life := range h.epochs {
			for _, e := range life {
				all = append(all, delivery{e.End.Add(50 * time.Millisecond), h.name, true, e})
			}
			noticed := h.lives[i].to.Add(time.Duration(r.IntN(3000)) * time.Millisecond)
			if i+1 == len(h.epochs) || noticed.Before(h.lives[i+1].from) {
				all = append(all, delivery{noticed.Add(60 * time.Millisecond), h.name, false, nil})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b delivery) int { return a.at.Compare(b.at) })
	return all
}

func (f *mortals) deliver(t *testing.T, r *rand.Rand, s *Store, c *clock) {
	t.Helper()
	for _, d := range f.deliveries(r) {
		c.now = d.at
		s.SetUp(d.name, d.up)
		if d.Epoch == nil {
			continue
		}
		if err := s.Append(d.name, d.Epoch); err != nil {
			t.Fatal(err)
		}
		if r.IntN(10) == 0 {
			s.Last(10 * time.Second) // readers don't change the outcome
		}
	}
}

// total is all that was sent and seen.
func (f *mortals) total() (sum epoch.Count) {
	for _, c := range f.truth {
		sum.Add(c)
	}
	return sum
}

// check compares what the store counts with the truth.
func (f *mortals) check(t *testing.T, s *Store) (decided int) {
	t.Helper()
	f.checkIntervals(t, s)
	return f.checkDecided(t, s.Last(5*time.Minute))
}

// checkIntervals looks for the truth in the intervals of all flows and prefixes.
func (f *mortals) checkIntervals(t *testing.T, s *Store) {
	t.Helper()
	w := s.Last(5 * time.Minute)
	for _, top := range w.TopFlows(1 << 20) {
		want := f.truth[top.Key].Bytes
		if want < top.Lower || want > top.Upper {
			t.Errorf("%v to %v port %d: %d bytes, not in [%d, %d]", top.Key.SourceAddr(), top.Key.DestinationAddr(), top.Key.SourcePort, want, top.Lower, top.Upper)
		}
	}
	for _, d := range flow.Dimensions {
		tree := w.Tree(d)
		if tree.Total() != w.Counted {
			t.Errorf("the %s tree has %v, the window %v", d, tree.Total(), w.Counted)
		}
		f.checkNode(t, d, tree.View(0))
	}
}

// checkNode looks for the truth in the interval of each prefix.
func (f *mortals) checkNode(t *testing.T, d flow.Dimension, v hhh.View) {
	t.Helper()
	var want uint64
	for k, c := range f.truth {
		if v.String() == "all" || v.Netip().Contains(k.Addr(d)) {
			want += c.Bytes
		}
	}
	if !v.Rest && (want < v.Lower || want > v.Upper) {
		t.Errorf("%s %s: %d bytes, not in [%d, %d]", d, v, want, v.Lower, v.Upper)
	}
	for i := range v.Children {
		f.checkNode(t, d, v.Children[i])
	}
}

// checkDecided asks for every byte of the flows that nobody's birth or death, and no
// fold, makes uncertain.
func (f *mortals) checkDecided(t *testing.T, w *Window) (decided int) {
	t.Helper()
	for _, h := range f.hosts {
		for _, e := range slices.Concat(h.epochs...) {
			if len(e.Ladders) > 0 {
				return 0
			}
		}
	}
	for _, top := range w.TopFlows(1 << 20) {
		if f.undecided[top.Key] || transitOf(top.Key) {
			continue
		}
		decided++
		if top.Bytes != f.truth[top.Key].Bytes || top.Bytes != top.Lower {
			t.Errorf("%v to %v port %d: %d bytes, want %v exactly", top.Key.SourceAddr(), top.Key.DestinationAddr(), top.Key.SourcePort, top.Bytes, f.truth[top.Key])
		}
	}
	return decided
}

// Exporters start and die in the middle of others' epochs: what is certain counts
// once, to the byte, and the truth is in all intervals, with folded flows and
// without; before the seconds are closed and after.
func TestExportersComeAndGo(t *testing.T) {
	fleet := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	decided := 0
	for i := range 100 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(i), 7))
			f := newMortals(r)
			for range 150 {
				f.send(r)
			}
			if i%2 == 1 {
				for _, h := range f.hosts {
					for _, e := range slices.Concat(h.epochs...) {
						forget(r, e, fleet)
					}
				}
			}
			s, clock := newTestStore(nil)
			f.deliver(t, r, s, clock)
			f.check(t, s)
			clock.at(60)
			decided += f.check(t, s)
			w := s.Last(5 * time.Minute)
			if i < 4 {
				t.Logf("%v sent, %v counted, %d doubtful, %d hidden, %d uncertain", f.total(), w.Counted, w.doubtful, w.hidden, w.Uncertain.Bytes)
			}
		})
	}
	if t.Logf("%d flows of fleets that fold nothing are certain", decided); decided < 500 {
		t.Error("too few flows to tell anything")
	}
}

// As long as an exporter's first epochs aren't all there, what others saw meanwhile
// may be in them.
func TestEpochsOfAnotherAreStillToCome(t *testing.T) {
	k := key("10.0.0.1", "10.0.0.2", 1)
	a := &mortal{name: "a", networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}, length: 200 * time.Millisecond}
	epochs := a.live(run{from: t0.Add(3200 * time.Millisecond), to: t0.Add(5 * time.Second)})
	b := newHost("b", "10.0.0.2/32")
	b.sees(3.1, k, 1000)
	s, clock := newTestStore(nil)
	clock.at(4)
	s.SetUp("a", true)
	deliver(t, rand.New(rand.NewPCG(1, 1)), s, b)
	for i, want := range []epoch.Interval{{Lower: 0, Upper: 1000}, {Lower: 1000, Upper: 1000}} {
		if err := s.Append("a", epochs[i]); err != nil {
			t.Fatal(err)
		}
		if got := s.Last(time.Minute).TopFlows(1)[0]; got.Lower != want.Lower || got.Upper != want.Upper {
			t.Errorf("after %d epochs [%d, %d], want %+v", i+1, got.Lower, got.Upper, want)
		}
	}
}
