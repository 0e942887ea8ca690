// Command footprint measures what the whole tma-exporter costs: processor, memory, the
// time of a scrape and the collector's pauses, under packets as fast as one CPU can send
// them, and idle.
//
// The exporter runs as users run it, with its default configuration, on one device of a
// wire. Its processor time is the process's own: what the kernel program costs is on the
// sender's account, as elsewhere on that of whoever receives; see benchmark/capture.
package main

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/traffic-monitor-agent/tma/benchmark/load"
)

func main() {
	app := kingpin.New("footprint", "What the whole tma-exporter costs.")
	program := app.Flag("exporter", "The program to measure.").Default("bin/tma-exporter").String()
	repeats := app.Flag("repeats", "Starts of the exporter in each row.").Default("3").Int()
	duration := app.Flag("duration", "Time of a measurement.").Default("15s").Duration()
	warmUp := app.Flag("warm-up", "Time under load before it.").Default("5s").Duration()
	rate := app.Flag("rate", "Packets a second; 0 for as many as can be sent.").Default("0").Int()
	output := app.Flag("json", "Where to write all measurements.").String()
	only := app.Flag("workload", "Regular expression for the rows to measure.").Default("").Regexp()
	arguments := app.Flag("argument", "An argument of the exporter. Repeatable.").Strings()
	kingpin.MustParse(app.Parse(os.Args[1:]))
	rows := slices.DeleteFunc(rows(), func(r row) bool { return !(*only).MatchString(r.name) })
	s := settings{*repeats, *duration, *warmUp, *rate, *program, *arguments}
	if err := compare(s, rows, *output); err != nil {
		fmt.Fprintln(os.Stderr, "bench-footprint:", err)
		os.Exit(1)
	}
}

// compare measures all rows and writes the table.
func compare(s settings, rows []row, output string) error {
	w, err := load.NewWire()
	if err != nil {
		return err
	}
	defer w.Close()
	r := report{Machine: load.ThisMachine(), Settings: s, Time: time.Now().UTC().Truncate(time.Second)}
	for repeat := range s.Repeats {
		for _, row := range rows {
			m, err := measure(w, s, row)
			if err != nil {
				return fmt.Errorf("%s: %w", row.name, err)
			}
			m.Repeat = repeat
			r.Measurements = append(r.Measurements, *m)
			fmt.Fprint(os.Stderr, ".")
		}
	}
	fmt.Fprintln(os.Stderr)
	if output != "" {
		if err := r.save(output); err != nil {
			return err
		}
	}
	return r.table(os.Stdout, rows)
}
