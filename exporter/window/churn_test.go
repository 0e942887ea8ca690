package window

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// noisy is traffic of flows whose packets come in bursts, independently of each other.
type noisy struct {
	flows   int
	zipf    float64       // the exponent of the flows' rates; 0 for all alike
	packets float64       // a second, of all together
	burst   uint64        // packets at a time
	life    time.Duration // after which a flow ends on the average and another begins; 0 for never
}

// epochs returns a function that draws one epoch after the other.
func (n noisy) epochs(random *rand.Rand) func() *epoch.Epoch {
	rates, names, sum := make([]float64, n.flows), make([]uint32, n.flows), 0.0
	for i := range rates {
		rates[i] = math.Pow(float64(i+1), -n.zipf)
		sum += rates[i]
		names[i] = uint32(i)
	}
	next, sequence := uint32(n.flows), uint64(0)
	return func() *epoch.Epoch {
		var flows []epoch.Flow
		for i := range rates {
			if n.life > 0 && random.Float64() < epochLength.Seconds()/n.life.Seconds() {
				names[i], next = next, next+1
			}
			expected := n.packets * epochLength.Seconds() * rates[i] / sum
			if packets := n.burst * poisson(random, expected/float64(n.burst)); packets > 0 {
				f := testFlow(names[i], names[i], packets*uint64(60+names[i]*7919%1440))
				f.Packets = packets
				flows = append(flows, f)
			}
		}
		sequence++
		return testEpoch(sequence, flows...)
	}
}

// poisson draws how many come of so many that are expected.
func poisson(random *rand.Rand, mean float64) uint64 {
	if mean > 50 {
		return uint64(max(0, math.Round(mean+math.Sqrt(mean)*random.NormFloat64())))
	}
	n, p := uint64(0), math.Exp(-mean)
	for sum, u := p, random.Float64(); u > sum && p > 1e-300; sum += p {
		n++
		p *= mean / float64(n)
	}
	return n
}

// Under steady traffic fewer than 1 % of the series change from one scrape to the
// next, once rates are known; and whatever the traffic is, there are never more series
// than the ration allows.
func TestTopKDoesNotChurn(t *testing.T) {
	const k, window = 20, 15 * time.Second
	const scrape, settling = int(15 * time.Second / epochLength), int(5 * time.Minute / epochLength)
	for _, test := range []struct {
		name    string
		traffic noisy
		length  time.Duration
		want    float64 // share of series that change at a scrape; 1 for whatever
	}{
		{"Zipf", noisy{flows: 2000, zipf: 1.1, packets: 20_000, burst: 1}, 20 * time.Minute, 0.01},
		{"Zipf in bursts", noisy{flows: 2000, zipf: 1, packets: 1000, burst: 16}, 20 * time.Minute, 0.01},
		{"Zipf, hardly anything", noisy{flows: 500, zipf: 1, packets: 50, burst: 8}, 30 * time.Minute, 0.01},
		{"all alike", noisy{flows: 1000, packets: 10_000, burst: 1}, 20 * time.Minute, 0.01},
		{"all alike in bursts", noisy{flows: 1000, packets: 1000, burst: 8}, 20 * time.Minute, 0.01},
		{"flows of 10 minutes", noisy{flows: 500, zipf: 1, packets: 10_000, burst: 1, life: 10 * time.Minute}, time.Hour, 1},
		{"flows of 30 seconds", noisy{flows: 500, zipf: 1, packets: 10_000, burst: 1, life: 30 * time.Second}, time.Hour, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			topk, draw := NewTopK(k, window), test.traffic.epochs(rand.New(rand.NewPCG(9, 10)))
			ever, before, shown, changed := map[flow.Key]bool{}, map[flow.Key]bool{}, 0, 0
			for i := range int(test.length / epochLength) {
				addWhole(topk, draw())
				top, now := topk.Top(), map[flow.Key]bool{}
				for _, e := range top.Flows.Entries {
					now[e.Key], ever[e.Key] = true, true
				}
				if allowed := k * (burst + float64(i+1)*epochLength.Seconds()/(residencyWindows*window.Seconds())); float64(len(ever)) > allowed {
					t.Fatalf("%d flows had a series after %d epochs, %.1f are allowed", len(ever), i+1, allowed)
				}
				if (i+1)%scrape != 0 {
					continue
				}
				if i > settling {
					shown += len(now) + 1 // other
					changed += differing(before, now)
				}
				before = now
			}
			share := float64(changed) / float64(shown)
			t.Logf("%.2f %% of the series change from scrape to scrape; %d flows ever had one in %s", 100*share, len(ever), test.length)
			if share >= test.want {
				t.Errorf("want less than %.0f %%", 100*test.want)
			}
		})
	}
}

// differing counts the series that came or went, whichever are more.
func differing(before, now map[flow.Key]bool) int {
	came, went := 0, 0
	for key := range now {
		if !before[key] {
			came++
		}
	}
	for key := range before {
		if !now[key] {
			went++
		}
	}
	return max(came, went)
}
