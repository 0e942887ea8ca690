package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"text/template"
	"time"

	"github.com/prometheus/common/version"

	"github.com/traffic-monitor-agent/tma/benchmark/machine"
)

// report is what a run leaves behind.
type report struct {
	Time     time.Time       `json:"time"`
	Machine  machine.Machine `json:"machine"`
	Go       string          `json:"go"`
	Revision string          `json:"revision"` // of the repository
	Load     string          `json:"load"`     // of the machine before the run
	Settings settings        `json:"settings"`
	Records  records         `json:"records"`
	Build    []float64       `json:"build"` // s
	Hour     hour            `json:"hour"`
	Live     []live          `json:"live"`
}

func newReport(s settings) report {
	r := report{
		Time: time.Now().UTC().Truncate(time.Second), Machine: machine.This(), Go: runtime.Version(),
		Revision: version.Version, Settings: s,
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		fmt.Sscan(string(load), &r.Load) //nolint:errcheck // it stays empty
	}
	return r
}

// row is a figure and what it has to reach.
type row struct {
	What, Figure, Bar string
	Reached           bool
}

// rows are all figures that have a bar.
func (r *report) rows() (rows []row) {
	add := func(what, bar string, reached bool, figure string, arguments ...any) {
		rows = append(rows, row{what, fmt.Sprintf(figure, arguments...), bar, reached})
	}
	million := func(values []float64) []float64 { return scaled(values, 1e-6) }
	if decode, merge := million(r.Records.Decode), million(r.Records.Merge); len(decode) > 0 {
		add("epochs decoded, records a second and core", "5 million", slices.Max(decode) >= 5,
			"%.1f million, median %.1f", slices.Max(decode), quantile(decode, 0.5))
		add("epochs decoded and merged until their seconds are closed", "5 million", slices.Max(merge) >= 5,
			"%.2f million, median %.2f", slices.Max(merge), quantile(merge, 0.5))
	}
	if build := scaled(r.Build, 1000); len(build) > 0 {
		add(fmt.Sprintf("tree of %d addresses", r.Settings.Addresses), "60 ms", slices.Min(build) <= 60,
			"%.0f ms, median %.0f", slices.Min(build), quantile(build, 0.5))
	}
	if answers := scaled(r.Hour.Seconds, 1000); len(answers) > 0 {
		p95 := quantile(answers, 0.95)
		add(fmt.Sprintf("`/v1/tree` over %v, p95", r.Settings.Hour.Length), "200 ms", p95 <= 200,
			"%.0f ms, median %.0f", p95, quantile(answers, 0.5))
	}
	if n := len(r.Live); n > 0 {
		l := &r.Live[n-1]
		who := fmt.Sprintf("%d exporters: ", l.Exporters)
		add(who+"CPU", "1 core", l.Cores <= 1, "%.2f cores", l.Cores)
		add(who+"resident memory", "1024 MiB", l.MiB <= 1024, "%.0f MiB", l.MiB)
		add(who+"latest epoch", "1 s", l.Fleet.Latest <= 1 && l.Fleet.Unread == 0, "%.3f s, %d never", l.Fleet.Latest, l.Fleet.Unread)
	}
	return rows
}

func scaled(values []float64, by float64) []float64 {
	all := make([]float64, len(values))
	for i, v := range values {
		all[i] = v * by
	}
	return all
}

// quantile is the least value that the share of all is at or below.
func quantile(values []float64, share float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(share*float64(len(sorted))+0.9999)-1)]
}

// document is docs/benchmarks/aggregator.md.
var document = template.Must(template.New("").Funcs(template.FuncMap{
	"yes": func(reached bool) string { return map[bool]string{true: "yes", false: "no"}[reached] },
	"ms":  func(seconds float64) string { return fmt.Sprintf("%.0f", seconds*1000) },
}).Parse(`# What the aggregator costs

Written by ` + "`make bench-aggregator`" + `, which measures everything again.

{{.Machine}}, {{.Go}}, revision {{.Revision}}, {{.Time.Format "2006-01-02 15:04"}} UTC; load of the machine before the run: {{.Load}}.

| what | figure | to reach | reached |
|---|---|---|---|
{{range .Rows}}| {{.What}} | {{.Figure}} | {{.Bar}} | {{yes .Reached}} |
{{end}}
Records are flows. A core's second is one of CPU time, the garbage collector's included; the best of {{.Settings.Merge.Repeats}} repeats, as the machine does other things, too.
{{if .Live}}
## With more exporters

A live ` + "`tma-aggregator`" + ` with nothing but targets in its configuration reads simulated exporters over HTTP on the loopback. Each sends an epoch a second, with four distinct counts and {{.Flows}} flows whose sizes are Zipf's, three fifths of them from or to other hosts of the fleet. {{.Settings.Live.Duration}} after {{.Settings.Live.Warmup}} to warm up; ` + "`/metrics`" + ` is scraped every {{.Settings.Live.Scrape}}.

| exporters | cores | MiB | late, median ms | late, p99 ms | latest, ms | too late, unread | scrape, ms at most | scrapes failed | simulated exporters, cores | bytes counted |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|
{{range .Live}}| {{.Exporters}} | {{printf "%.3f" .Cores}} | {{printf "%.0f" .MiB}} | {{ms (.Fleet.Quantile 0)}} | {{ms (.Fleet.Quantile 1)}} | {{ms .Fleet.Latest}} | {{.Fleet.TooLate}}, {{.Fleet.Unread}} | {{ms .ScrapeMax}} | {{.Failed}} | {{printf "%.3f" .FleetCore}} | {{.Conserved}} |
{{end}}
How late an epoch is: from its end until the aggregator asks for the next one, having merged it. Bytes counted: whether the aggregator's counter is what the exporters sent, each packet once, to the byte.

![Cores and memory by number of exporters](aggregator.svg)
{{end}}`))

// write writes the page.
func (r *report) write(w io.Writer) error {
	return document.Execute(w, struct {
		*report
		Rows  []row
		Flows int
	}{r, r.rows(), flowsPerHost})
}

// Conserved says whether all that was sent is counted, each packet once.
func (l *live) Conserved() string {
	switch {
	case l.Failed > 0:
		return "unknown"
	case l.Counted == l.Fleet.Bytes:
		return "exactly"
	}
	return fmt.Sprintf("%+.4f %%", 100*(float64(l.Counted)/float64(l.Fleet.Bytes)-1))
}

// save writes the report as JSON and, into a directory of documents, as a page with
// its plot.
func (r *report) save(file, documents string) error {
	if file != "" {
		data, err := json.MarshalIndent(r, "", "\t")
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
			return err
		}
	}
	if documents == "" {
		return nil
	}
	if err := os.MkdirAll(documents, 0o755); err != nil {
		return err
	}
	page, err := os.Create(filepath.Join(documents, "aggregator.md"))
	if err != nil {
		return err
	}
	defer page.Close()
	if err := r.write(page); err != nil {
		return err
	}
	return plotGrowth(r.Live, filepath.Join(documents, "aggregator.svg"))
}
