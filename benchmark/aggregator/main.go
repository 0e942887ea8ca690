// Command aggregator measures what tma-aggregator costs: epochs decoded and merged,
// trees built, questions about an hour answered, and a live process with more and more
// simulated exporters, each of which is an address of one process of its own.
package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/alecthomas/kingpin/v2"
)

// settings say what is measured.
type settings struct {
	Merge     mergeSettings `json:"merge"`
	Addresses int           `json:"addresses"` // of the tree
	Builds    int           `json:"builds"`
	Hour      hourSettings  `json:"hour"`
	Live      liveSettings  `json:"live"`
	Exporters []int         `json:"exporters"` // of the live runs, ascending
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == fleetCommand {
		exit(fleetMain(os.Args[2], os.Args[3]))
	}
	var s settings
	app := kingpin.New("aggregator", "What the aggregator costs.")
	app.Flag("aggregator", "The aggregator's program.").Default("bin/tma-aggregator").StringVar(&s.Live.Aggregator)
	app.Flag("exporters", "Simulated exporters of a live run; again for further runs.").Default("10", "100", "1000").IntsVar(&s.Exporters)
	app.Flag("duration", "What is measured of a live run.").Default("60s").DurationVar(&s.Live.Duration)
	app.Flag("warmup", "What of a live run precedes that.").Default("15s").DurationVar(&s.Live.Warmup)
	app.Flag("scrape", "How often a live aggregator's metrics are asked for.").Default("15s").DurationVar(&s.Live.Scrape)
	app.Flag("merge-exporters", "Exporters whose epochs are decoded and merged.").Default("100").IntVar(&s.Merge.Exporters)
	app.Flag("merge-seconds", "Seconds of their epochs.").Default("20").IntVar(&s.Merge.Seconds)
	app.Flag("merge-repeats", "How often that is measured.").Default("5").IntVar(&s.Merge.Repeats)
	app.Flag("addresses", "Addresses of the tree.").Default("1000000").IntVar(&s.Addresses)
	app.Flag("builds", "How often the tree is built.").Default("20").IntVar(&s.Builds)
	app.Flag("hour-exporters", "Exporters of the hour that questions are about.").Default("20").IntVar(&s.Hour.Exporters)
	app.Flag("hour", "Length of the hour.").Default("1h").DurationVar(&s.Hour.Length)
	app.Flag("hour-fine", "What of it is in epochs of a second.").Default("6m").DurationVar(&s.Hour.Fine)
	app.Flag("questions", "Questions about the hour.").Default("60").IntVar(&s.Hour.Questions)
	output := app.Flag("json", "Where to write all measurements.").String()
	documents := app.Flag("docs", "Directory to write the page with its plot to.").String()
	kingpin.MustParse(app.Parse(os.Args[1:]))
	slices.Sort(s.Exporters)
	exit(run(s, *output, *documents))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-aggregator:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run measures everything and writes the report. A live run that fails doesn't take the
// other figures with it.
func run(s settings, output, documents string) error {
	r := newReport(s)
	failed := r.measure()
	if err := r.save(output, documents); err != nil {
		return err
	}
	if err := r.write(os.Stdout); err != nil {
		return err
	}
	return failed
}

// measure takes one figure after the other, the quietest ones first.
func (r *report) measure() (err error) {
	s := &r.Settings
	progress("decoding and merging %d exporters' epochs", s.Merge.Exporters)
	if r.Records, err = runMerge(s.Merge); err != nil {
		return err
	}
	progress("building trees of %d addresses", s.Addresses)
	if r.Build, err = runBuild(s.Addresses, s.Builds); err != nil {
		return err
	}
	progress("asking for the tree of %v", s.Hour.Length)
	if r.Hour, err = runHour(s.Hour); err != nil {
		return err
	}
	for _, exporters := range s.Exporters {
		progress("running with %d exporters for %v", exporters, s.Live.Warmup+s.Live.Duration)
		l, err := runLive(s.Live, exporters)
		if err != nil {
			return fmt.Errorf("%d exporters: %w", exporters, err)
		}
		r.Live = append(r.Live, l)
	}
	return nil
}

func progress(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+" ...\n", arguments...)
}
