package main

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/traffic-monitor-agent/tma/benchmark/load"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// The test binary is its own candidates' user space too.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == candidateCommand {
		exit(candidateMain(os.Args[2]))
	}
	os.Exit(m.Run())
}

// In every row this program is clearly cheaper than the cheaper one of the others, and
// user space gets to know of every packet. How much cheaper is `make bench-capture`'s
// to say: times on a busy machine prove nothing.
func TestCheaperThanOtherStores(t *testing.T) {
	testutil.RequireRoot(t)
	columns, err := allColumns(nil, false)
	if err != nil {
		t.Fatal(err)
	}
	b, err := newBench()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	}()
	r := report{}
	open := load.Workloads()
	for range rounds {
		err := b.run(settings{Repeats: 1, Slices: 8, Packets: 5000, Rate: 500_000}, open, columns, func(s []sample) {
			r.Samples = append(r.Samples, s...)
		})
		if err != nil {
			t.Fatal(err)
		}
		open = slices.DeleteFunc(open, func(w load.Workload) bool { return cheapest(&r, w) })
	}
	for _, row := range open {
		t.Errorf("%s: %.1f ns, %s %.1f ns, %s %.1f ns", row.Name, r.cost(row.Name, candidateTMA).Min,
			candidateLocked, r.cost(row.Name, candidateLocked).Min, candidateLRU, r.cost(row.Name, candidateLRU).Min)
	}
	for _, row := range load.Workloads() {
		for _, c := range columns {
			if kept := r.kept(row.Name, c.name); kept != 1 {
				t.Errorf("%s: %s kept %.4f of the packets", row.Name, c.name, kept)
			}
		}
	}
}

// rounds is how often a row is measured before it counts as lost: minima need a
// moment in which the machine does nothing else.
const rounds = 6

// leeway is how much more than the bars' share of the cheaper store this program may
// cost in a test.
const leeway = 1.7

func cheapest(r *report, w load.Workload) bool { return r.share(w.Name) < leeway*barOf(w).share }

// The bars are per row and the shares are of the cheaper one of the others.
func TestReport(t *testing.T) {
	r := report{}
	for candidate, values := range map[string][]float64{
		candidateEmpty: {10, 12, 14}, candidateTMA: {30, 20, 25}, candidateLocked: {110, 120, 130}, candidateLRU: {50, 60, 70},
	} {
		for _, v := range values {
			r.Samples = append(r.Samples, sample{Workload: "row", Candidate: candidate, Nanoseconds: v, Kept: 1})
		}
	}
	r.Samples[0].Kept = 0.5
	if got, want := r.cost("row", candidateTMA), (cost{10, 13}); got != want {
		t.Errorf("cost %v, want %v", got, want)
	}
	if got := fmt.Sprintf("%.2f", r.share("row")); got != "0.25" {
		t.Errorf("share %s, want 0.25", got)
	}
	if got := r.kept("row", r.Samples[0].Candidate); got != 0.5 {
		t.Errorf("kept %v, want 0.5", got)
	}
}
