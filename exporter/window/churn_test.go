package window

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// poisson draws how many packets come of so many that are expected.
func poisson(r *rand.Rand, mean float64) uint64 {
	if mean > 50 {
		return uint64(max(0, math.Round(mean+math.Sqrt(mean)*r.NormFloat64())))
	}
	n, p := uint64(0), math.Exp(-mean)
	for sum, u := p, r.Float64(); u > sum && p > 1e-300; sum += p {
		n++
		p *= mean / float64(n)
	}
	return n
}

func TestSim(t *testing.T) {
	for _, s := range []float64{0, 0.8, 1, 1.1} {
		for _, flows := range []int{50, 2000} {
			for _, pps := range []float64{5, 50, 1000} {
				sim(t, s, flows, pps, 0)
			}
		}
	}
	for _, life := range []float64{10, 60, 600} {
		sim(t, 1, 2000, 10000, life)
	}
}

func sim(t *testing.T, s float64, flows int, pps float64, life float64) {
	const k, scrapeEvery = 20, 30
	r := rand.New(rand.NewPCG(9, 10))
	topk := NewTopK(k, 15*time.Second)
	w := make([]float64, flows)
	id := make([]uint32, flows)
	next := uint32(flows)
	sum := 0.0
	for i := range w {
		w[i] = math.Pow(float64(i+1), -s)
		sum += w[i]
		id[i] = uint32(i)
	}
	type stat struct{ shown, changed int }
	var early, late stat
	var before map[flow.Key]bool
	ever := map[flow.Key]bool{}
	other, total, missed := 0.0, 0.0, 0.0
	live := 0
	for sequence := range uint64(3600) {
		var all []epoch.Flow
		for i := range w {
			if life > 0 && r.Float64() < 0.5/life {
				id[i] = next
				next++
			}
			n := poisson(r, pps/2*w[i]/sum)
			if n > 0 {
				all = append(all, testFlow(id[i], id[i], n*uint64(60+id[i]*7919%1440)))
				all[len(all)-1].Packets = n
			}
		}
		addWhole(topk, testEpoch(sequence+1, all...))
		if (sequence+1)%scrapeEvery != 0 {
			continue
		}
		st := &early
		if sequence > 600 {
			st = &late
		}
		now := map[flow.Key]bool{}
		top := topk.Top()
		for _, e := range top.Flows.Entries {
			now[e.Key] = true
			ever[e.Key] = true
			st.shown++
			if e.Bytes > 0 {
				live++
			}
			if before != nil && !before[e.Key] {
				st.changed++
			}
		}
		other += float64(top.Flows.Other.Bytes)
		total += float64(top.Total.Bytes)
		missed += float64(top.Flows.Missed)
		before = now
	}
	fmt.Printf("s=%.1f flows=%5d pps=%6.0f life=%3.0f: early %.2f%% late %.3f%%  ever %d other %.2f missed %.4f live %d\n", s, flows, pps, life,
		100*float64(early.changed)/float64(early.shown), 100*float64(late.changed)/float64(late.shown), len(ever), other/total, missed/total, live/120)
}
