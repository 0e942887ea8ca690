package hhh

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

var hierarchies = []Levels{DefaultLevels(), Steps(4, 4), Steps(1, 32), Steps(16, 8)}

// randomPrefix is often one that came before, or its neighbour: a few networks
// with a few hosts each, at every length that a ladder has, and some others.
func randomPrefix(r *rand.Rand) netip.Prefix {
	lengths, bytes := []int{32, 32, 32, 32, 24, 16, 8, 0, 27}, 4
	if r.IntN(3) == 0 {
		lengths, bytes = []int{128, 128, 128, 64, 48, 32, 0, 61}, 16
	}
	address := make([]byte, bytes)
	for i := range address {
		address[i] = byte(r.IntN(3) * 64)
	}
	address[0] |= 1
	addr, _ := netip.AddrFromSlice(address)
	return netip.PrefixFrom(addr, lengths[r.IntN(len(lengths))]).Masked()
}

func randomMasses(r *rand.Rand, n int) []Mass {
	masses := make([]Mass, n)
	for i := range masses {
		if r.IntN(50) > 0 {
			masses[i].Prefix = FromNetip(randomPrefix(r))
		}
		bytes := uint64(r.IntN(1000))
		if r.IntN(10) == 0 {
			bytes *= 100
		}
		masses[i].Count = epoch.Count{Bytes: bytes, Packets: bytes/100 + 1}
	}
	return masses
}

// build makes the tree of masses and its oracle, each in an order of its own.
func build(r *rand.Rand, levels Levels, masses []Mass, unknown uint64) (*Tree, *oracle) {
	o := newOracle(levels)
	o.unknown = unknown
	for _, m := range masses {
		if m.Family() == Any {
			o.addAt("all", m.Count)
		} else {
			o.add(m.Netip(), m.Count)
		}
	}
	shuffled := slices.Clone(masses)
	r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	b := NewBuilder(levels)
	for len(shuffled) > 0 {
		n := 1 + r.IntN(len(shuffled))
		b.Add(shuffled[:n])
		shuffled = shuffled[n:]
	}
	b.AddUnknown(unknown)
	o.doubtful = unknown / 4
	b.AddDoubtful(o.doubtful)
	return b.Build(), o
}

// forRandomTrees tests small trees, and three that are large enough for the radix
// sort to take part.
func forRandomTrees(t *testing.T, test func(*testing.T, *rand.Rand, *Tree, *oracle)) {
	forRandomTreesOf(t, 100*insertionMaximum, test)
}

// forRandomTreesOf tests trees that are at most so large.
func forRandomTreesOf(t *testing.T, largest int, test func(*testing.T, *rand.Rand, *Tree, *oracle)) {
	for i := range 60 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(i), 7))
			n := r.IntN(120)
			if i%20 == 19 {
				n = largest
			}
			tree, o := build(r, hierarchies[i%len(hierarchies)], randomMasses(r, n), uint64(r.IntN(3)*500))
			test(t, r, tree, o)
		})
	}
}

// Every node of the tree, and no other, with all of its numbers.
func TestTreeIsTheOracles(t *testing.T) {
	forRandomTrees(t, func(t *testing.T, _ *rand.Rand, tree *Tree, o *oracle) {
		want := o.nodes()
		seen := make(map[string]bool)
		var walk func(v *View)
		walk = func(v *View) {
			text := v.String()
			if v.Rest {
				return
			}
			if seen[text] {
				t.Errorf("%s is there twice", text)
			}
			seen[text] = true
			if v.Count != want[text] {
				t.Errorf("%s has %v, want %v", text, v.Count, want[text])
			}
			if v.SelfBytes != o.masses[text].Bytes {
				t.Errorf("%s has %d bytes of its own, want %d", text, v.SelfBytes, o.masses[text].Bytes)
			}
			if v.Lower != o.lower(want[text].Bytes) || v.Upper != o.upper(text, want[text].Bytes) {
				t.Errorf("%s is in [%d, %d], want [%d, %d]", text, v.Lower, v.Upper, o.lower(want[text].Bytes), o.upper(text, want[text].Bytes))
			}
			for i := range v.Children {
				walk(&v.Children[i])
			}
		}
		root := tree.View(0)
		walk(&root)
		for text, c := range want {
			if c.Bytes > 0 && !seen[text] {
				t.Errorf("%s with %v is missing", text, c)
			}
		}
		if tree.Total() != want["all"] {
			t.Errorf("total is %v, want %v", tree.Total(), want["all"])
		}
	})
}

// The oracle goes through all pairs of prefixes, so that the largest trees are left
// to the other tests.
func TestHeavyIsTheOracles(t *testing.T) {
	forRandomTreesOf(t, 300, func(t *testing.T, _ *rand.Rand, tree *Tree, o *oracle) {
		for _, phi := range []float64{0.003, 0.01, 0.05, 0.2, 0.5, 1} {
			want, nodes := o.heavy(phi), o.nodes()
			got := make(map[string]uint64)
			for _, h := range tree.Heavy(phi) {
				text := h.String()
				got[text] = h.Conditioned
				if h.Count != nodes[text] || h.Lower != o.lower(h.Bytes) || h.Upper != o.upper(text, h.Bytes) {
					t.Errorf("phi %v: %s is %+v, want %v and at most %d", phi, text, h.Node, nodes[text], o.upper(text, h.Bytes))
				}
			}
			if !maps.Equal(got, want) {
				t.Errorf("phi %v: heavy are %v, want %v", phi, got, want)
			}
		}
	})
}

// Whatever the share, children add up, nothing that is shown is below the share
// and nothing above it is missing.
func TestViewAddsUp(t *testing.T) {
	forRandomTrees(t, func(t *testing.T, _ *rand.Rand, tree *Tree, o *oracle) {
		for _, share := range []float64{0, 0.01, 0.1, 0.6, 1} {
			least := Threshold(share, tree.Total().Bytes)
			shown := make(map[string]bool)
			var walk func(v *View)
			walk = func(v *View) {
				if !v.Rest {
					shown[v.String()] = true
				}
				var sum epoch.Count
				for i := range v.Children {
					child := &v.Children[i]
					sum.Add(child.Count)
					if !child.Rest && child.Bytes < least && child.Length() > 0 {
						t.Errorf("share %v: %s with %d bytes is shown", share, child, child.Bytes)
					}
					if child.Rest && i != len(v.Children)-1 {
						t.Errorf("share %v: the rest of %s isn't last", share, v)
					}
					walk(child)
				}
				if len(v.Children) > 0 && sum != v.Count {
					t.Errorf("share %v: children of %s add up to %v of %v", share, v, sum, v.Count)
				}
			}
			root := tree.View(share)
			walk(&root)
			for text, c := range o.nodes() {
				if c.Bytes > 0 && c.Bytes >= least && !shown[text] {
					t.Errorf("share %v: %s with %d bytes isn't shown", share, text, c.Bytes)
				}
			}
		}
	})
}

func TestTopAddresses(t *testing.T) {
	forRandomTrees(t, func(t *testing.T, r *rand.Rand, tree *Tree, o *oracle) {
		type ranked struct {
			prefix Prefix
			bytes  uint64
		}
		var want []ranked
		for text, c := range o.nodes() {
			if text != "all" && netip.MustParsePrefix(text).IsSingleIP() {
				want = append(want, ranked{FromNetip(netip.MustParsePrefix(text)), c.Bytes})
			}
		}
		slices.SortFunc(want, func(a, b ranked) int {
			return cmp.Or(cmp.Compare(b.bytes, a.bytes), a.prefix.Compare(b.prefix))
		})
		k := r.IntN(20)
		got := tree.TopAddresses(k)
		if len(got) != min(k, len(want)) {
			t.Fatalf("got %d of the %d first of %d", len(got), k, len(want))
		}
		for i, n := range got {
			if n.Prefix != want[i].prefix || n.Bytes != want[i].bytes || n.Upper != o.upper(n.String(), n.Bytes) {
				t.Errorf("number %d is %+v, want %+v", i, n, want[i])
			}
		}
	})
}

// The example of the paper's figure, in words: two hosts of a /24 are heavy,
// and the /24 is heavy by what is left of it.
func TestConditionedCount(t *testing.T) {
	b := NewBuilder(DefaultLevels())
	mass := func(prefix string, bytes uint64) Mass {
		return Mass{FromNetip(netip.MustParsePrefix(prefix)), epoch.Count{Bytes: bytes}}
	}
	b.Add([]Mass{
		mass("10.0.0.1/32", 30), mass("10.0.0.2/32", 40), mass("10.0.0.3/32", 9), mass("10.0.0.4/32", 8),
		mass("10.0.1.1/32", 4), mass("2001:db8::1/128", 9),
	})
	want := map[string][2]uint64{
		"10.0.0.2/32": {40, 40}, "10.0.0.1/32": {30, 30}, "10.0.0.0/24": {87, 17}, "all": {100, 13},
	}
	got := make(map[string][2]uint64)
	for _, h := range b.Build().Heavy(0.1) {
		got[h.String()] = [2]uint64{h.Bytes, h.Conditioned}
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestThreshold(t *testing.T) {
	for _, test := range []struct {
		share float64
		total uint64
		want  uint64
	}{
		{0.07, 100, 7}, {0.29, 100, 29}, {0.01, 300, 3}, {0.01, 301, 4}, {1, 12345, 12345},
		{0, 100, 0}, {0.5, 0, 0}, {0.0001, 1, 1}, {0.1, 1 << 50, 1<<50/10 + 1},
	} {
		if got := Threshold(test.share, test.total); got != test.want {
			t.Errorf("Threshold(%v, %d) is %d, want %d", test.share, test.total, got, test.want)
		}
	}
}

func TestPrefixRoundTrip(t *testing.T) {
	for _, text := range []string{
		"0.0.0.0/0", "10.0.0.0/8", "10.1.2.3/32", "255.255.255.255/32", "10.128.0.0/9",
		"::/0", "2001:db8::/32", "2001:db8::1/128", "fe80:1:2:3::/64", "::fffe:0:0/95", "2001:db8::8000:0/97",
	} {
		p := netip.MustParsePrefix(text)
		if got := FromNetip(p); got.String() != text || got.Netip() != p {
			t.Errorf("%s became %s", text, got)
		}
	}
	if got := (Prefix{}).String(); got != "all" {
		t.Errorf("the root is %q", got)
	}
	if got := FromNetip(netip.MustParsePrefix("::ffff:10.1.0.0/112")).String(); got != "10.1.0.0/16" {
		t.Errorf("a mapped 10.1.0.0/16 became %s", got)
	}
	mapped := netip.MustParseAddr("10.1.2.3").As16()
	if got := AddrPrefix(mapped).String(); got != "10.1.2.3/32" {
		t.Errorf("10.1.2.3 became %s", got)
	}
}

// Folding keeps every byte, moves masses only to their ancestors, and keeps the
// largest where they are.
func TestFoldSmallest(t *testing.T) {
	for i := range 40 {
		r := rand.New(rand.NewPCG(uint64(i), 9))
		masses := Combine(randomMasses(r, 50+r.IntN(300)))
		bound := 3 + r.IntN(60)
		before, largest := sums(masses), slices.MaxFunc(masses, func(a, b Mass) int { return int(a.Bytes) - int(b.Bytes) })
		folded := FoldSmallest(slices.Clone(masses), bound)
		if len(folded) > bound {
			t.Errorf("%d masses, bound %d", len(folded), bound)
		}
		if after := sums(folded); after[Any] != before[Any] || after[IPv4] != before[IPv4] || after[IPv6] != before[IPv6] {
			t.Errorf("%v became %v", before, after)
		}
		if !slices.ContainsFunc(folded, func(m Mass) bool { return m.Prefix == largest.Prefix && m.Bytes >= largest.Bytes }) {
			t.Errorf("%v, the largest of %d, was folded at bound %d", largest, len(masses), bound)
		}
		if !slices.IsSortedFunc(folded, func(a, b Mass) int { return a.Compare(b.Prefix) }) {
			t.Error("the result isn't sorted")
		}
	}
}

func sums(masses []Mass) (by [3]epoch.Count) {
	for _, m := range masses {
		by[m.Family()].Add(m.Count)
	}
	return by
}

func TestFoldSteps(t *testing.T) {
	for _, test := range []struct{ prefix, want string }{
		{"10.1.2.3/32", "10.1.2.0/24"}, {"10.1.2.0/24", "10.1.0.0/16"}, {"10.0.0.0/8", "0.0.0.0/0"}, {"10.1.2.0/27", "10.1.2.0/24"},
		{"2001:db8:1:2::3/128", "2001:db8:1:2::/64"}, {"2001:db8:1:2::/64", "2001:db8:1::/48"},
		{"2001:db8:1::/48", "2001:db8::/32"}, {"2001:db8::/32", "::/0"}, {"::/0", "::/0"},
	} {
		if got := FromNetip(netip.MustParsePrefix(test.prefix)).foldStep().String(); got != test.want {
			t.Errorf("%s folds into %s, want %s", test.prefix, got, test.want)
		}
	}
}

// BenchmarkBuild is a million distinct IPv4 addresses from masses to the tree
// and to its heavy hitters.
func BenchmarkBuild(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	masses := make([]Mass, 1_000_000)
	for i, address := range r.Perm(1 << 24)[:len(masses)] {
		addr := netip.AddrFrom4([4]byte{byte(address * 167), byte(address >> 16), byte(address >> 8), byte(address)})
		bytes := uint64(r.ExpFloat64() * 1000)
		masses[i] = Mass{FromNetip(netip.PrefixFrom(addr, 32)), epoch.Count{Bytes: bytes, Packets: 1}}
	}
	for b.Loop() {
		builder := NewBuilder(DefaultLevels())
		builder.Add(masses)
		tree := builder.Build()
		if tree.Len() < len(masses) || len(tree.Heavy(0.01)) == 0 {
			b.Fatal("the tree lacks something")
		}
	}
}
