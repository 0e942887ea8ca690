package hhh

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// The view of a node is the part of the whole view that begins there.
func TestZoom(t *testing.T) {
	forRandomTrees(t, func(t *testing.T, _ *rand.Rand, tree *Tree, _ *oracle) {
		var compare func(v *View)
		compare = func(v *View) {
			if zoomed, _ := tree.Zoom(v.Prefix, Extent{}); v.Bytes > 0 && !reflect.DeepEqual(zoomed, *v) {
				t.Fatalf("%v is\n%v, want\n%v", v.Prefix, zoomed, *v)
			}
			for i := range v.Children {
				if !v.Children[i].Rest {
					compare(&v.Children[i])
				}
			}
		}
		whole := tree.View(0)
		compare(&whole)
	})
}

// Within whatever extent, children add up to their parent and bounds hold.
func TestZoomIsBounded(t *testing.T) {
	forRandomTrees(t, func(t *testing.T, r *rand.Rand, tree *Tree, _ *oracle) {
		e := Extent{MinShare: float64(r.IntN(3)) / 100, Levels: 1 + r.IntN(4), MaxNodes: 1 + r.IntN(20)}
		root := Prefix{}
		if whole := tree.View(0); r.IntN(2) == 0 && len(whole.Children) > 0 && len(whole.Children[0].Children) > 0 {
			root = whole.Children[0].Children[0].Prefix
		}
		view, least := tree.Zoom(root, e)
		nodes := 0
		var walk func(v *View, level int)
		walk = func(v *View, level int) {
			var sum epoch.Count
			for i := range v.Children {
				child := &v.Children[i]
				sum.Add(child.Count)
				if child.Rest {
					continue
				}
				if level == e.Levels || child.Length() > 0 && child.Bytes < least {
					t.Fatalf("%v is at level %d with %d bytes, least %d", child.Prefix, level+1, child.Bytes, least)
				}
				if child.Length() > 0 {
					nodes++
				}
				walk(child, level+1)
			}
			if len(v.Children) > 0 && sum != v.Count {
				t.Fatalf("children of %v have %v of %v", v.Prefix, sum, v.Count)
			}
		}
		walk(&view, 0)
		if nodes > e.MaxNodes {
			t.Fatalf("%d nodes, allowed %d", nodes, e.MaxNodes)
		}
	})
}
