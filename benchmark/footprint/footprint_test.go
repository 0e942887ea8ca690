package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/benchmark/load"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func buildExporter(t *testing.T) string {
	t.Helper()
	must(t, testutil.NoteSources("../../exporter", "../../internal", "../../bpf"))
	path := filepath.Join(t.TempDir(), "tma-exporter")
	build := exec.Command("go", "build", "-o", path, "../../exporter")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the exporter: %v\n%s", err, output)
	}
	return path
}

func newWire(t *testing.T) *load.Wire {
	t.Helper()
	testutil.RequireRoot(t)
	w, err := load.NewWire()
	must(t, err)
	t.Cleanup(func() { must(t, w.Close()) })
	return w
}

// Under every load each packet is counted, and what the process takes is of the order
// that it should be. `make bench-footprint` says how much it is: times on a busy machine
// prove nothing, so those here are of another order.
func TestFootprint(t *testing.T) {
	w, program := newWire(t), buildExporter(t)
	idle := 0.0
	for _, row := range rows() {
		s := settings{Duration: 2 * time.Second, WarmUp: time.Second, Rate: 50_000, Program: program}
		m, err := measure(w, s, row)
		must(t, err)
		t.Logf("%s: %.0f packets/s, %.1f %% of a core, %d MiB, slowest of %d scrapes %.0f ms, pause %.1f ms", row.name,
			m.rate(), 100*m.processor(), m.Peak>>20, len(m.Scrapes), 1e3*slices.Max(m.Scrapes), 1e3*m.Pause)
		if m.Lost != 0 {
			t.Errorf("%s: %d packets of %d lost", row.name, m.Lost, m.Packets)
		}
		if row.load != nil && m.Packets == 0 {
			t.Errorf("%s: nothing was sent", row.name)
		}
		if share := m.processor(); share > 0.6 {
			t.Errorf("%s: %.0f %% of a core", row.name, 100*share)
		}
		if row.load == nil {
			idle = m.processor()
		} else if m.processor() < idle/2 {
			t.Errorf("%s takes %.2f %% of a core, idle %.2f %%: that isn't the exporter's", row.name, 100*m.processor(), 100*idle)
		}
		// The kernel's peak lags by what each CPU has counted for itself.
		if m.Peak > residentBar || m.Memory.Resident > m.Peak+m.Peak/50 || m.Memory.Anonymous+m.Memory.Maps > m.Memory.Resident {
			t.Errorf("%s: peak %d bytes, want at most %d; %+v", row.name, m.Peak, residentBar, m.Memory)
		}
		if middle(slices.Sorted(slices.Values(m.Scrapes))) > 10*scrapeBar {
			t.Errorf("%s: scrapes take %v s", row.name, m.Scrapes)
		}
	}
}

// A process that works is told from one that sleeps, and what it maps is found.
func TestProcessFigures(t *testing.T) {
	before, err := processorTimeOf(os.Getpid())
	must(t, err)
	for start := time.Now(); time.Since(start) < 100*time.Millisecond; {
	}
	page := make([]byte, 32<<20)
	for i := range page {
		page[i] = 1
	}
	after, err := processorTimeOf(os.Getpid())
	must(t, err)
	if used := after.user + after.system - before.user - before.system; used == 0 || used > time.Minute {
		t.Errorf("%v of the processor in a tenth of a second", used)
	}
	m, err := memoryOf(os.Getpid())
	must(t, err)
	if m.Anonymous < 32<<20 || m.Anonymous > m.Resident || m.Once > m.Resident || m.Maps != 0 {
		t.Errorf("with 32 MiB in use: %+v", m)
	}
	if peak, err := peakOf(os.Getpid()); err != nil || peak < m.Resident/2 {
		t.Errorf("peak %d, resident %d: %v", peak, m.Resident, err)
	}
	if page[len(page)-1] != 1 {
		t.Error("unreachable")
	}
}
