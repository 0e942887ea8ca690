package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// The test binary is its own simulated exporters, too.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == fleetCommand {
		exit(fleetMain(os.Args[2], os.Args[3]))
	}
	os.Exit(m.Run())
}

// buildAggregator builds the program.
func buildAggregator(t *testing.T) string {
	t.Helper()
	if err := testutil.NoteSources("../../aggregator", "../../internal"); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "tma-aggregator")
	if out, err := exec.Command("go", "build", "-o", program, "../../aggregator").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// A short run of everything: a live aggregator reads all epochs of its fleet and counts
// each packet once, to the byte, at a cost far from what `make bench-aggregator` has to
// show with a hundred times as many exporters.
func TestShortRun(t *testing.T) {
	r := newReport(settings{
		Merge:     mergeSettings{Exporters: 10, Seconds: 3, Repeats: 2},
		Addresses: 50_000, Builds: 3,
		Hour:      hourSettings{Exporters: 5, Length: 8 * time.Minute, Fine: 6 * time.Minute, Questions: 10},
		Live:      liveSettings{Aggregator: buildAggregator(t), Warmup: time.Second, Duration: 3 * time.Second, Scrape: time.Second},
		Exporters: []int{2, 10},
	})
	if err := r.measure(); err != nil {
		t.Fatal(err)
	}
	for _, l := range r.Live {
		if want := uint64(l.Exporters) * 5; l.Fleet.Epochs != want || l.Fleet.Unread != 0 || l.Missed != 0 {
			t.Errorf("%d exporters: %d epochs were read, want %d; %d weren't, %v were missed", l.Exporters, l.Fleet.Epochs, want, l.Fleet.Unread, l.Missed)
		}
		if l.Counted != l.Fleet.Bytes || l.Counted == 0 {
			t.Errorf("%d exporters: counted %d bytes, sent %d", l.Exporters, l.Counted, l.Fleet.Bytes)
		}
		if l.Cores > 1 || l.MiB > 512 || l.Fleet.Latest > 3 {
			t.Errorf("%d exporters: %.2f cores, %.0f MiB, an epoch was %.1f s late", l.Exporters, l.Cores, l.MiB, l.Fleet.Latest)
		}
	}
	if least := 100_000.0; quantile(r.Records.Decode, 1) < 4*least || quantile(r.Records.Merge, 1) < least {
		t.Errorf("%.0f records a second decoded, %.0f merged", quantile(r.Records.Decode, 1), quantile(r.Records.Merge, 1))
	}
	checkDocuments(t, &r)
}

// checkDocuments asserts that what was measured is in what is written.
func checkDocuments(t *testing.T, r *report) {
	t.Helper()
	directory := t.TempDir()
	if err := r.save(filepath.Join(directory, "results.json"), directory); err != nil {
		t.Fatal(err)
	}
	for file, wants := range map[string][]string{
		"results.json":   {`"exporters": 10`, `"kernel": "` + r.Machine.Kernel},
		"aggregator.md":  {"| 10 | ", "exactly", r.Machine.Kernel, r.Go, "(aggregator.svg)"},
		"aggregator.svg": {"<svg", "exporters", "MiB", "</svg>"},
	} {
		data, err := os.ReadFile(filepath.Join(directory, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(data), want) {
				t.Errorf("%s has no %q", file, want)
			}
		}
	}
}

// Both ends of a connection see it alike; hosts have as many flows as they should, and
// what all hosts count is all that was sent, once.
func TestTraffic(t *testing.T) {
	const hosts = 10
	traffic := traffic{hosts}
	all, sum := map[flow.Key]uint64{}, uint64(0)
	for host := range hosts {
		e := traffic.epoch(host, 1)
		if len(e.Flows) != flowsPerHost {
			t.Errorf("host %d has %d flows, want %d", host, len(e.Flows), flowsPerHost)
		}
		if lost := e.Unaccounted(flow.Source); lost != (epoch.Count{}) {
			t.Errorf("host %d doesn't account for %v", host, lost)
		}
		for _, f := range e.Flows {
			if other, twice := all[f.Key]; twice && other != f.Bytes {
				t.Errorf("%v has %d and %d bytes", f.Key, f.Bytes, other)
			}
			all[f.Key] = f.Bytes
		}
		sum += counted(e)
	}
	once := uint64(0)
	for _, n := range all {
		once += n
	}
	if sum != once {
		t.Errorf("hosts count %d bytes, flows have %d", sum, once)
	}
}

// Figures are compared with what they have to reach.
func TestReport(t *testing.T) {
	r := report{
		Records: records{Decode: []float64{4e6, 6e6, 5e6}, Merge: []float64{1e6}}, Build: []float64{0.05, 0.08},
		Hour: hour{Seconds: []float64{0.1, 0.3}},
		Live: []live{{Exporters: 9, Cores: 0.5, MiB: 2000, Counted: 9, Fleet: summary{Bytes: 10, Latest: 0.5, Late: []float64{0, 0, 0}, Unread: 1}}},
	}
	var got []string
	for _, row := range r.rows() {
		got = append(got, fmt.Sprintf("%s %v", row.Figure, row.Reached))
	}
	want := []string{
		"6.0 million, median 5.0 true", "1.00 million, median 1.00 false", "50 ms, median 50 true", "300 ms, median 100 false",
		"0.50 cores true", "2000 MiB false", "0.500 s, 1 never false",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	var page bytes.Buffer
	if err := r.write(&page); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(page.String(), "-10.0000 %") {
		t.Errorf("the page doesn't say what is missing:\n%s", &page)
	}
}
