package main

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/promslog"

	"github.com/traffic-monitor-agent/tma/aggregator/collector"
	"github.com/traffic-monitor-agent/tma/aggregator/config"
	"github.com/traffic-monitor-agent/tma/aggregator/scrape"
	"github.com/traffic-monitor-agent/tma/aggregator/store"
	"github.com/traffic-monitor-agent/tma/aggregator/targets"
	"github.com/traffic-monitor-agent/tma/internal/docs"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/reload"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
	"github.com/traffic-monitor-agent/tma/internal/sketch/pairs"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

const metricsDocument = "../docs/metrics.md"

func TestDocumentation(t *testing.T) {
	docs.Section(t, metricsDocument, "aggregator metrics", docs.Metrics(t, sampleRegistry(t)))
	var o options
	docs.Section(t, "../docs/configuration.md", "aggregator flags", docs.Flags(o.flags(), func(string) bool { return false }))
}

// sampleDiscovery has the metrics of a job that asks for its targets, which make
// themselves known when it begins.
func sampleDiscovery(t *testing.T, registry *prometheus.Registry, logger *slog.Logger) {
	t.Helper()
	manager, err := targets.New(func([]scrape.Target) {}, registry, logger)
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(writeConfig(t, `scrape_configs: [{job_name: test, http_sd_configs: [{url: "`+targetList(t, "a:1")+`"}]}]`))
	if err != nil {
		t.Fatal(err)
	}
	if err := manager.Apply(c.ScrapeConfigs); err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	manager.Run(ended)
}

// sampleRegistry is that of an aggregator with one exporter, which has had traffic.
func sampleRegistry(t *testing.T) *prometheus.Registry {
	t.Helper()
	c := config.Default()
	c.Cardinality.Windows = append(c.Cardinality.Windows, c.HHH.Window)
	begin := time.Unix(1_700_000_000, 0)
	now := begin
	clock := func() time.Time { return now }
	windows := store.New(storeConfiguration(c), clock)
	windows.SetUp("a:1", true)
	err := windows.Append("a:1", &epoch.Epoch{
		Sequence: 1, Start: begin, End: begin.Add(500 * time.Millisecond),
		Flows:    []epoch.Flow{flowOf("10.0.0.1", "10.0.0.2", 5000)},
		Sketches: []epoch.Sketch{{Of: epoch.OfFlows, HLL: new(hll.Sketch)}},

		SampledPairs: &pairs.Thinned{Pairs: []pairs.Pair{{}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	now = begin.Add(8 * time.Second) // the second is closed
	statuses := func() []scrape.Status { return []scrape.Status{{Target: scrape.Target{Name: "a:1"}, Up: true}} }
	registry := prometheus.NewRegistry()
	logger := promslog.NewNopLogger()
	sampleDiscovery(t, registry, logger)
	register(registry, collector.New(collectorConfiguration(c), windows, statuses, clock), reload.New(nil, logger))
	metricsHandler(registry)
	return registry
}

func TestLint(t *testing.T) {
	registry := sampleRegistry(t)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) != 0 {
		t.Errorf("%v, %v", problems, err)
	}
	answer := httptest.NewRecorder()
	metricsHandler(registry).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	testutil.CheckMetrics(t, answer.Body.String())
}

// targetList serves one target to http_sd_configs.
func targetList(t *testing.T, target string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`[{"targets": ["` + target + `"]}]`))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// Neither the document nor a scrape of the running program has a name that the other
// doesn't have.
func TestScrapeIsDocumented(t *testing.T) {
	exporter := exporterOf(t, "10.0.0.1", flowOf("10.0.0.1", "10.0.0.2", 9000))
	list := targetList(t, freeAddress(t)) // which is down
	found := filepath.Join(t.TempDir(), "targets.json")
	if err := os.WriteFile(found, []byte(`[{"targets": ["`+strings.TrimPrefix(exporter.URL, "http://")+`"]}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	file := writeConfig(t, `
scrape_configs:
  - job_name: files
    file_sd_configs: [{files: ["`+found+`"]}]
  - job_name: list
    http_sd_configs: [{url: "`+list+`"}]
`)
	address := freeAddress(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"--config.file", file, "--web.listen-address", address, "--log.level", "error"})
	}()
	scrape := func() (last string) {
		get(t, "http://"+address+"/metrics", func(_ int, body string) bool {
			last = body
			return true
		})
		return last
	}
	testutil.CheckMetrics(t, docs.CheckScrape(t, scrape, metricsDocument, "aggregator metrics"))
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
