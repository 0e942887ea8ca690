package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// recorder is a test that may fail without failing ours.
type recorder struct {
	testing.TB
	failed string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, _ ...any) { r.failed = format }

const page = "# Title\n\n<!-- begin a -->\n\nold\n\n<!-- end a -->\n\n<!-- begin b -->\n<!-- end b -->\n"

// A section that differs fails a test, and is replaced, alone, where that is asked for.
func TestSection(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &recorder{TB: t}
	Section(r, file, "a", "new\n")
	if r.failed == "" {
		t.Error("a section that differs is taken")
	}
	t.Setenv(writeVariable, "1")
	Section(t, file, "a", "new\n")
	t.Setenv(writeVariable, "")
	Section(t, file, "a", "new\n")
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Replace(page, "old", "new", 1); string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Metrics without a sample are there, with all their labels.
func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tma_b_bytes_total", Help: `Bytes, "b"\n.`, ConstLabels: prometheus.Labels{"z": "x"}}, []string{"port", "port_name"}),
		prometheus.NewHistogram(prometheus.HistogramOpts{Name: "tma_a_seconds", Help: "A|B.", NativeHistogramBucketFactor: 1.1, Buckets: prometheus.DefBuckets}),
	)
	want := "| `tma_a_seconds` | histogram, classic and native |  | seconds | A\\|B. |\n" +
		"| `tma_b_bytes_total` | counter | `port`, `port_name`, `z` | bytes | Bytes, \"b\"\\n. |\n"
	if got := Metrics(t, registry); !strings.Contains(got, want) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
