// Command capture measures what TMA's kernel program costs a packet, beside the
// stores that other flow agents use, with the same parser and the same totals.
//
// Packets go over a wire between two devices in a namespace of its own, pass the
// candidate at the ingress hook and are dropped right behind it. The figures are
// the kernel's own (BPF statistics), less those of an empty program. Each
// candidate's user space is a process that drains what there is to drain.
package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/traffic-monitor-agent/tma/benchmark/load"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == candidateCommand {
		exit(candidateMain(os.Args[2]))
	}
	app := kingpin.New("capture", "What the kernel program costs a packet, beside other stores of flows.")
	repeats := app.Flag("repeats", "Starts of each candidate in each row.").Default("10").Int()
	measurements := app.Flag("slices", "Measurements a start.").Default("10").Int()
	packets := app.Flag("packets", "Packets a measurement.").Default("20000").Int()
	rate := app.Flag("rate", "Packets a second.").Default("500000").Int()
	output := app.Flag("json", "Where to write all measurements.").String()
	also := app.Flag("also", "NAME=PROGRAM: another build of this program, whose capture is a column too.").StringMap()
	alone := app.Flag("alone", "Leave out the comparison programs.").Bool()
	only := app.Flag("workload", "Regular expression for the rows to measure.").Default("").Regexp()
	kingpin.MustParse(app.Parse(os.Args[1:]))
	exit(compare(settings{*repeats, *measurements, *packets, *rate}, *also, *alone, *only, *output))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-capture:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// compare measures everything and writes the table.
func compare(s settings, also map[string]string, alone bool, only *regexp.Regexp, output string) error {
	columns, err := allColumns(also, alone)
	if err != nil {
		return err
	}
	b, err := newBench()
	if err != nil {
		return err
	}
	defer b.close()
	r := report{Machine: load.ThisMachine(), Settings: s, Time: time.Now().UTC().Truncate(time.Second)}
	rows := slices.DeleteFunc(load.Workloads(), func(w load.Workload) bool { return !only.MatchString(w.Name) })
	err = b.run(s, rows, columns, func(samples []sample) {
		r.Samples = append(r.Samples, samples...)
		fmt.Fprint(os.Stderr, ".")
	})
	fmt.Fprintln(os.Stderr)
	if err != nil {
		return err
	}
	if output != "" {
		if err := r.save(output); err != nil {
			return err
		}
	}
	return r.table(os.Stdout, rows, columns)
}

// allColumns are the candidates of this program, and the captures of others.
func allColumns(also map[string]string, alone bool) ([]column, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	columns := []column{
		{candidateEmpty, candidateEmpty, self},
		{candidateTMA, candidateTMA, self},
	}
	for name, executable := range also {
		columns = append(columns, column{name, candidateTMA, executable})
	}
	if alone {
		return columns, nil
	}
	return append(columns,
		column{candidateLocked, candidateLocked, self},
		column{candidateLRU, candidateLRU, self},
	), nil
}
