package fold

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// slowLadder is a ladder of maps that are sorted anew each time.
type slowLadder struct {
	room   int
	levels []map[netip.Prefix]epoch.Count // the last one, the whole family, has room
	stayed map[netip.Prefix]bool          // what is left of the last shrink
}

func newSlowLadder(room int) *slowLadder {
	s := &slowLadder{room: room, stayed: map[netip.Prefix]bool{}}
	for range 5 {
		s.levels = append(s.levels, map[netip.Prefix]epoch.Count{})
	}
	return s
}

// lengthsOf are the prefix lengths of a family's levels.
func lengthsOf(a netip.Addr) []int {
	if a.Is4() {
		return []int{32, 24, 16, 8, 0}
	}
	return []int{128, 64, 48, 32, 0}
}

// add counts at the longest level that isn't longer than the prefix.
func (s *slowLadder) add(p netip.Prefix, c epoch.Count) {
	for i, length := range lengthsOf(p.Addr()) {
		if length <= p.Bits() {
			s.addAt(i, p.Addr(), c)
			return
		}
	}
}

func (s *slowLadder) addAt(level int, a netip.Addr, c epoch.Count) {
	p, err := a.Prefix(lengthsOf(a)[level])
	if err != nil {
		panic(err)
	}
	sum := s.levels[level][p]
	sum.Add(c)
	s.levels[level][p] = sum
}

// shrink moves the smallest of each level to the next; of equals those that came
// since the last shrink, and then the later addresses.
func (s *slowLadder) shrink() {
	for i, level := range s.levels[:4] {
		isNew := func(p netip.Prefix) int {
			if s.stayed[p] {
				return 0
			}
			return 1
		}
		all := slices.SortedFunc(maps.Keys(level), func(a, b netip.Prefix) int {
			return cmp.Or(cmp.Compare(level[b].Bytes, level[a].Bytes), isNew(a)-isNew(b), a.Addr().Compare(b.Addr()))
		})
		for _, p := range all[min(s.room, len(all)):] {
			s.addAt(i+1, p.Addr(), level[p])
			delete(level, p)
			delete(s.stayed, p)
		}
		for p := range level {
			s.stayed[p] = true
		}
	}
}

// slowLadders are all ladders; batches are as long as those of Ladders.
type slowLadders struct {
	room    int
	ladders map[[3]int]*slowLadder // by class, dimension and whether it is of IPv4
	batch   []func()
}

func (s *slowLadders) at(class epoch.Class, d flow.Dimension, a netip.Addr) *slowLadder {
	key := [3]int{int(class), int(d), a.BitLen()}
	if s.ladders[key] == nil {
		s.ladders[key] = newSlowLadder(s.room)
	}
	return s.ladders[key]
}

func (s *slowLadders) add(class epoch.Class, key flow.Key, c epoch.Count) {
	s.batch = append(s.batch, func() {
		for _, d := range flow.Dimensions {
			a := key.Addr(d)
			s.at(class, d, a).add(netip.PrefixFrom(a, a.BitLen()), c)
		}
	})
	if len(s.batch) == foldBatch*s.room {
		s.fold()
	}
}

func (s *slowLadders) fold() {
	for _, add := range s.batch {
		add()
	}
	s.batch = nil
	s.shrink()
}

func (s *slowLadders) shrink() {
	for _, ladder := range s.ladders {
		ladder.shrink()
	}
}

// snapshotKey is what an entry of a snapshot is about.
type snapshotKey struct {
	class     epoch.Class
	dimension flow.Dimension
	netip.Prefix
}

func (s *slowLadders) snapshot() map[snapshotKey]epoch.Count {
	s.fold()
	all := map[snapshotKey]epoch.Count{}
	for key, ladder := range s.ladders {
		for _, level := range ladder.levels {
			for p, c := range level {
				all[snapshotKey{epoch.Class(key[0]), flow.Dimension(key[1]), p}] = c
			}
		}
	}
	return all
}

func snapshotOf(ladders []epoch.Ladder) map[snapshotKey]epoch.Count {
	all := map[snapshotKey]epoch.Count{}
	for i := range ladders {
		for _, e := range ladders[i].Entries {
			all[snapshotKey{ladders[i].Class, ladders[i].Dimension, e.Prefix}] = e.Count
		}
	}
	return all
}

func TestLaddersAreTheOracles(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 6))
		room := 1 + r.IntN(40)
		fast, slow := NewLadders(room), &slowLadders{room: room, ladders: map[[3]int]*slowLadder{}}
		var added epoch.Count
		for range 60 {
			switch r.IntN(12) {
			case 0:
				others := randomLadders(r)
				fast.AddPrefixes(others)
				for i := range others {
					for _, e := range others[i].Entries {
						if e.Count != (epoch.Count{}) {
							slow.at(others[i].Class, others[i].Dimension, e.Addr()).add(e.Prefix, e.Count)
						}
					}
				}
				slow.shrink()
				added.Add(sumOf(others, flow.Source))
			case 1:
				if got, want := snapshotOf(fast.Snapshot()), slow.snapshot(); !maps.Equal(got, want) {
					t.Fatalf("seed %d: %d entries, want %d, or with other counts", seed, len(got), len(want))
				}
			default:
				for range r.IntN(300) {
					key := mixedKey(r.Uint64N(3000))
					class, c := epoch.Class(r.IntN(3)), epoch.Count{Packets: 1, Bytes: r.Uint64N(1 << r.IntN(12))}
					fast.Add(class, &key, c)
					slow.add(class, key, c)
					added.Add(c)
				}
			}
		}
		for _, d := range flow.Dimensions {
			if got := sumOf(fast.Snapshot(), d); got != added {
				t.Fatalf("seed %d: %v by %s, added %v", seed, got, d, added)
			}
		}
		fast.Reset()
		if left := fast.Snapshot(); len(left) != 0 {
			t.Fatalf("seed %d: %v after Reset", seed, left)
		}
	}
}

func sumOf(ladders []epoch.Ladder, d flow.Dimension) epoch.Count {
	e := epoch.Epoch{Ladders: ladders}
	return e.Folded(d)
}

// randomLadders are of lengths that ladders have and of others, with the same sum
// in both dimensions.
func randomLadders(r *rand.Rand) []epoch.Ladder {
	ladders := []epoch.Ladder{{Dimension: flow.Source}, {Dimension: flow.Destination}}
	for i := range ladders {
		ladders[i].Class = epoch.Class(r.IntN(3))
	}
	for range r.IntN(200) {
		c := epoch.Count{Packets: r.Uint64N(3), Bytes: r.Uint64N(500)}
		for i := range ladders {
			key := mixedKey(r.Uint64N(3000))
			a := key.Addr(flow.Dimension(i))
			p, err := a.Prefix(r.IntN(a.BitLen() + 1))
			if err != nil {
				panic(err)
			}
			ladders[i].Entries = append(ladders[i].Entries, epoch.Prefix{Prefix: p, Count: c})
		}
	}
	return ladders
}

func TestCutIsThatOfSorting(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		values := make([]uint64, 2+r.IntN(100))
		for i := range values {
			values[i] = r.Uint64N(1 << r.IntN(64))
		}
		n := 1 + r.IntN(len(values)-1)
		c := CutAt(slices.Clone(values), n)
		var got []uint64
		for _, v := range values {
			if c.Keeps(v) {
				got = append(got, v)
			}
		}
		slices.Sort(got)
		slices.Sort(values)
		if want := values[len(values)-n:]; !slices.Equal(got, want) {
			t.Fatalf("the %d largest: got %v, want %v", n, got, want)
		}
	}
}

func TestWordsSortByUpperHalf(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var s wordSorter
	for range 300 {
		n, mask := r.IntN(4*fewWords), r.Uint64()&r.Uint64()<<r.IntN(32)
		s.words = s.words[:0]
		for i := range n {
			s.words = append(s.words, r.Uint64()&mask>>32<<32|uint64(i))
		}
		want := slices.Clone(s.words) // equal addresses in order, as their numbers ascend
		slices.Sort(want)
		if s.sort(); !slices.Equal(s.words, want) {
			t.Fatalf("%d words, bits %x: not in order", n, mask>>32)
		}
	}
}

func TestSortedByBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	for range 300 {
		var s sorter
		for i := range r.IntN(500) {
			p := prefix{r.Uint64() >> r.IntN(65), r.Uint64() >> r.IntN(65)}
			s.items = append(s.items, numbered{p, uint32(i)})
		}
		want := slices.Clone(s.items)
		slices.SortStableFunc(want, func(a, b numbered) int { return cmp.Or(cmp.Compare(a.high, b.high), cmp.Compare(a.low, b.low)) })
		s.sort()
		if !slices.Equal(s.items, want) {
			t.Fatalf("%d prefixes aren't sorted", len(want))
		}
	}
}
