package endtoend

import (
	"strings"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// An exporter that dies is marked down, everything else goes on, and it is picked
// up again when it is back.
func TestExporterDies(t *testing.T) {
	f := newFleet(t)
	f.burst(t, 1)
	f.exporters["host-c"].kill(t)
	testutil.Eventually(t, 15*time.Second, "host-c is down in /v1/exporters", func() bool { return f.up(t) == 3 })
	testutil.Eventually(t, 5*time.Second, "host-c is down in /metrics", func() bool { return f.metric(t, "tma_exporter_up", "host-c") == 0 })
	for _, host := range []string{"host-a", "host-b", "host-d"} {
		if f.metric(t, "tma_exporter_up", host) != 1 {
			t.Errorf("%s is down as well", host)
		}
	}
	total := func() uint64 {
		var answer struct{ Root treeNode }
		f.get(t, "/v1/tree?dimension=source&window=5m", &answer)
		return answer.Root.Bytes
	}
	before := total()
	sent := f.burst(t, 2)
	testutil.Eventually(t, 5*time.Second, "traffic between the others is counted", func() bool { return total() == before+sent })

	f.exporters["host-c"].process = f.exporters["host-c"].start()
	testutil.Eventually(t, 15*time.Second, "host-c is up again", func() bool { return f.up(t) == 4 })
	if f.metric(t, "tma_exporter_up", "host-c") != 1 {
		t.Error("host-c is up in /v1/exporters and down in /metrics")
	}
}

// metric is a gauge of the aggregator's about one exporter.
func (f *fleet) metric(t *testing.T, name, host string) float64 {
	t.Helper()
	target := strings.TrimPrefix(f.exporters[host].url, "http://")
	for _, m := range f.aggregator.metrics(t)[name].GetMetric() {
		if labels(m)["exporter"] == target {
			return m.GetGauge().GetValue()
		}
	}
	t.Fatalf("no %s of %s (%s)", name, host, target)
	return 0
}
