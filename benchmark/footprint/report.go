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

// What every row has to reach.
const (
	residentBar = 128 << 20 // bytes: 64 MiB above the default budget of as many
	scrapeBar   = 0.020     // seconds
	pauseBar    = 0.001     // seconds
)

// report is what a run leaves behind.
type report struct {
	Time         time.Time     `json:"time"`
	Machine      load.Machine  `json:"machine"`
	Settings     settings      `json:"settings"`
	Measurements []measurement `json:"measurements"`
}

// of returns one figure of all measurements of a row, in order.
func (r *report) of(row row, figure func(*measurement) float64) (values []float64) {
	for i := range r.Measurements {
		if m := &r.Measurements[i]; m.Workload == row.name {
			values = append(values, figure(m))
		}
	}
	slices.Sort(values)
	return values
}

func middle(sorted []float64) float64 { return sorted[len(sorted)/2] }

// table writes the least processor time, which is nearest to what the exporter needs on a
// machine that does nothing else, and the largest of everything that must never be large.
func (r *report) table(w io.Writer, rows []row) error {
	fmt.Fprintf(w, "%s\n%d x %v after %v, all packets to one device\n\n", r.Machine, r.Settings.Repeats, r.Settings.Duration, r.Settings.WarmUp)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "load\tpackets/s\t% of a core, min / median\tbar\tMiB, peak\tonce\tanonymous\tmaps\tbar\tscrape, ms, median / max\tbar\tpause, ms\tcollections\tbar\tlost\tflow unknown\treached\t\n")
	for _, row := range rows {
		r.line(t, row)
	}
	return t.Flush()
}

func (r *report) line(t io.Writer, row row) {
	mebibytes := func(figure func(*measurement) uint64) float64 {
		return slices.Max(r.of(row, func(m *measurement) float64 { return float64(figure(m)) / (1 << 20) }))
	}
	processor := r.of(row, (*measurement).processor)
	bar := "-"
	if row.bar > 0 {
		bar = fmt.Sprintf("%.1f", 100*row.bar)
	}
	fmt.Fprintf(t, "%s\t%.0f\t%.2f / %.2f\t%s\t", row.name, slices.Max(r.of(row, (*measurement).rate)), 100*processor[0], 100*middle(processor), bar)
	fmt.Fprintf(t, "%.1f\t%.1f\t%.1f\t%.1f\t%d\t",
		mebibytes(func(m *measurement) uint64 { return m.Peak }),
		mebibytes(func(m *measurement) uint64 { return m.Memory.Once }),
		mebibytes(func(m *measurement) uint64 { return m.Memory.Anonymous }),
		mebibytes(func(m *measurement) uint64 { return m.Memory.Maps }), residentBar>>20)
	scrapes := r.scrapes(row)
	fmt.Fprintf(t, "%.1f / %.1f\t%.0f\t", 1e3*middle(scrapes), 1e3*slices.Max(scrapes), 1e3*scrapeBar)
	fmt.Fprintf(t, "%.2f\t%.0f\t%.0f\t", 1e3*slices.Max(r.of(row, func(m *measurement) float64 { return m.Pause })),
		slices.Max(r.of(row, func(m *measurement) float64 { return m.Collections })), 1e3*pauseBar)
	fmt.Fprintf(t, "%.0f\t%.0f\t%s\t\n", slices.Max(r.of(row, func(m *measurement) float64 { return float64(m.Lost) })),
		slices.Max(r.of(row, func(m *measurement) float64 { return m.Unknown })), r.verdict(row))
}

// scrapes are the times of all scrapes of a row.
func (r *report) scrapes(row row) (all []float64) {
	for _, m := range r.Measurements {
		if m.Workload == row.name {
			all = append(all, m.Scrapes...)
		}
	}
	slices.Sort(all)
	return all
}

// verdict names what isn't reached.
func (r *report) verdict(row row) string {
	over := func(figure func(*measurement) float64, bar float64) bool { return slices.Max(r.of(row, figure)) > bar }
	switch {
	case row.bar > 0 && r.of(row, (*measurement).processor)[0] > row.bar:
		return "no: processor"
	case over(func(m *measurement) float64 { return float64(m.Peak) }, residentBar):
		return "no: memory"
	case middle(r.scrapes(row)) > scrapeBar:
		return "no: scrape"
	case over(func(m *measurement) float64 { return m.Pause }, pauseBar):
		return "no: pause"
	case over(func(m *measurement) float64 { return float64(max(m.Lost, -m.Lost)) }, 0):
		return "no: packets"
	}
	return "yes"
}

// save writes the report as JSON.
func (r *report) save(path string) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
