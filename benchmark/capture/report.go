package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/traffic-monitor-agent/tma/benchmark/load"
)

// report is what a run leaves behind.
type report struct {
	Time     time.Time    `json:"time"`
	Machine  load.Machine `json:"machine"`
	Settings settings     `json:"settings"`
	Samples  []sample     `json:"samples"`
}

// bar is what this program has to reach in a row.
type bar struct {
	nanoseconds float64 // at most, above the empty program
	share       float64 // at most, of the cheaper one of the others
}

// bars are by workload.Flows; those not listed have the bar of 0.
var bars = map[int]bar{1: {30, 1.0 / 2}, 1000: {50, 1.0 / 2}, 0: {80, 1.0 / 3}}

func barOf(w load.Workload) bar {
	if b, found := bars[w.Flows]; found {
		return b
	}
	return bars[0]
}

// cost is ns a packet above the empty program.
type cost struct{ Min, Median float64 }

// costs computes a candidate's cost in a row. The minimum is above the empty
// program's minimum, and so is the median: the empty program costs the same
// whatever the packet, so that all rows serve to measure it.
func (r *report) cost(workload, candidate string) cost {
	var floor, own []float64
	for _, s := range r.Samples {
		switch {
		case s.Candidate == candidateEmpty:
			floor = append(floor, s.Nanoseconds)
		case s.Workload == workload && s.Candidate == candidate:
			own = append(own, s.Nanoseconds)
		}
	}
	return cost{slices.Min(own) - slices.Min(floor), median(own) - median(floor)}
}

// kept is the smallest share of the packets that a candidate kept in a row.
func (r *report) kept(workload, candidate string) float64 {
	least := 1.0
	for _, s := range r.Samples {
		if s.Workload == workload && s.Candidate == candidate {
			least = min(least, s.Kept)
		}
	}
	return least
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// table writes min / median of each candidate in each row, and this program's
// share of the cheaper one of the others.
func (r *report) table(w io.Writer, rows []load.Workload, columns []column) error {
	fmt.Fprintf(w, "%s\n%d x %d measurements of %d packets at %d/s\n", r.Machine, r.Settings.Repeats, r.Settings.Slices, r.Settings.Packets, r.Settings.Rate)
	fmt.Fprintf(w, "ns a packet above an empty program (%.1f), min / median:\n\n", r.floor())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "workload\t")
	for _, c := range columns {
		if c.candidate != candidateEmpty {
			fmt.Fprintf(t, "%s\t", c.name)
		}
	}
	fmt.Fprint(t, "share of cheaper\tbar: ns, share\treached\tkept\t\n")
	for _, row := range rows {
		fmt.Fprintf(t, "%s\t", row.Name)
		for _, c := range columns {
			if c.candidate != candidateEmpty {
				own := r.cost(row.Name, c.name)
				fmt.Fprintf(t, "%.1f / %.1f\t", own.Min, own.Median)
			}
		}
		b, own, share := barOf(row), r.cost(row.Name, candidateTMA).Min, r.share(row.Name)
		reached := map[bool]string{true: "yes", false: "no"}[own <= b.nanoseconds && share <= b.share]
		fmt.Fprintf(t, "%.2f\t%.0f, %.2f\t%s\t%.4f\t\n", share, b.nanoseconds, b.share, reached, r.kept(row.Name, candidateTMA))
	}
	return t.Flush()
}

// share is this program's cost as a share of the cheaper one of the others, 0 if
// those weren't measured.
func (r *report) share(workload string) float64 {
	if !slices.ContainsFunc(r.Samples, func(s sample) bool { return s.Candidate == candidateLRU }) {
		return 0
	}
	cheaper := min(r.cost(workload, candidateLocked).Min, r.cost(workload, candidateLRU).Min)
	return r.cost(workload, candidateTMA).Min / cheaper
}

// floor is the empty program's run, with what measuring it costs.
func (r *report) floor() float64 {
	least := 0.0
	for _, s := range r.Samples {
		if s.Candidate == candidateEmpty && (least == 0 || s.Nanoseconds < least) {
			least = s.Nanoseconds
		}
	}
	return least
}

// save writes the report as JSON.
func (r *report) save(path string) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
