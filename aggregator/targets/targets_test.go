package targets

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/promslog"

	"github.com/traffic-monitor-agent/tma/aggregator/config"
	"github.com/traffic-monitor-agent/tma/aggregator/scrape"
)

func load(t *testing.T, text string) config.Configuration {
	t.Helper()
	file := filepath.Join(t.TempDir(), "aggregator.yml")
	write(t, file, text)
	c, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// write replaces a file as a whole, as what writes files of targets should.
func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// finding is a manager and what it found last.
type finding struct {
	*Manager
	registry *prometheus.Registry
	last     atomic.Pointer[[]scrape.Target]
}

func find(t *testing.T) *finding {
	t.Helper()
	f := &finding{registry: prometheus.NewRegistry()}
	var err error
	f.Manager, err = New(func(targets []scrape.Target) { f.last.Store(&targets) }, f.registry, promslog.NewNopLogger())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return f
}

func (f *finding) apply(t *testing.T, text string) {
	t.Helper()
	if err := f.Apply(load(t, text).ScrapeConfigs); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until these targets, by name, are found and no others.
func (f *finding) eventually(t *testing.T, want ...string) []scrape.Target {
	t.Helper()
	var names []string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		names = nil
		targets := *f.last.Load()
		for _, target := range targets {
			names = append(names, target.Name)
		}
		if slices.Equal(names, want) {
			return targets
		}
	}
	t.Fatalf("found %q, want %q", names, want)
	return nil
}

func targetsOf(t *testing.T, c config.Configuration) []scrape.Target {
	t.Helper()
	f := find(t)
	if err := f.Apply(c.ScrapeConfigs); err != nil {
		t.Fatal(err)
	}
	return *f.last.Load()
}

// Each target once, and what isn't scraped is counted with why.
func TestDroppedTargets(t *testing.T) {
	f := find(t)
	f.apply(t, `
scrape_configs:
  - job_name: one
    static_configs: [{targets: [a:1, b:1, "b:1"]}]
  - job_name: two
    epochs_path: /other
    static_configs: [{targets: [a:1]}]
  - job_name: three
    static_configs: [{targets: [a:1, https://c/, d:1, e:1, f]}]
    relabel_configs: [{source_labels: [__address__], regex: d:1, action: drop}]
  - job_name: four
    target_limit: 1
    static_configs: [{targets: [g:1, h:1]}]
`)
	f.eventually(t, "a:1", "a:1/other", "b:1", "e:1")
	want := `# HELP tma_discovered_targets Targets of the job that were found, static ones included, before relabelling.
# TYPE tma_discovered_targets gauge
tma_discovered_targets{job="four"} 2
tma_discovered_targets{job="one"} 3
tma_discovered_targets{job="three"} 5
tma_discovered_targets{job="two"} 1
# HELP tma_dropped_targets Targets that were found and aren't scraped: dropped by relabelling, invalid, there already (duplicate), or more than the job's limit.
# TYPE tma_dropped_targets gauge
`
	dropped := map[string][4]int{"one": {1, 0, 0, 0}, "two": {}, "three": {1, 2, 0, 1}, "four": {0, 0, 2, 0}}
	for _, job := range slices.Sorted(maps.Keys(dropped)) {
		for i, reason := range []string{"duplicate", "invalid", "limit", "relabelling"} {
			want += fmt.Sprintf("tma_dropped_targets{job=%q,reason=%q} %d\n", job, reason, dropped[job][i])
		}
	}
	if err := testutil.GatherAndCompare(f.registry, strings.NewReader(want), "tma_discovered_targets", "tma_dropped_targets"); err != nil {
		t.Error(err)
	}
}

// hashmod shards a fleet: each target is one aggregator's, and about as many each.
func TestShards(t *testing.T) {
	var addresses []string
	for i := range 100 {
		addresses = append(addresses, fmt.Sprintf("host-%d:10017", i))
	}
	seen := map[string]int{}
	for shard := range 4 {
		list := targetsOf(t, load(t, fmt.Sprintf(`
scrape_configs:
  - job_name: tma
    static_configs: [{targets: [%s]}]
    relabel_configs:
      - {source_labels: [__address__], modulus: 4, target_label: __tmp_hash, action: hashmod}
      - {source_labels: [__tmp_hash], regex: "%d", action: keep}
`, strings.Join(addresses, ","), shard)))
		if len(list) < 10 || len(list) > 50 {
			t.Errorf("shard %d has %d targets", shard, len(list))
		}
		for _, target := range list {
			seen[target.Name]++
		}
	}
	if len(seen) != 100 {
		t.Errorf("%d targets are someone's", len(seen))
	}
}

// Files are watched: a target that comes, goes or gets another label does so here,
// with the labels of its group.
func TestFileDiscovery(t *testing.T) {
	directory := t.TempDir()
	file := filepath.Join(directory, "targets.yml")
	write(t, file, "- {targets: [a:1], labels: {zone: a}}")
	f := find(t)
	f.apply(t, `
scrape_configs:
  - job_name: files
    static_configs: [{targets: [static:1]}]
    file_sd_configs: [{files: [`+directory+`/*.yml]}]
    relabel_configs: [{source_labels: [__meta_filepath], regex: .*/(.*), target_label: from}]
`)
	found := f.eventually(t, "a:1", "static:1")
	if want := map[string]string{"instance": "a:1", "job": "files", "zone": "a", "from": "targets.yml"}; !reflect.DeepEqual(found[0].Labels, want) {
		t.Errorf("labels are %v, want %v", found[0].Labels, want)
	}
	write(t, file, "- {targets: [b:1, c:1]}")
	f.eventually(t, "b:1", "c:1", "static:1")
	write(t, file, "- {targets: [b:1]}")
	f.eventually(t, "b:1", "static:1")
}

// A server of targets is asked with the credentials of its own, and again and again.
func TestHTTPDiscovery(t *testing.T) {
	var list atomic.Pointer[[]map[string]any]
	list.Store(&[]map[string]any{{"targets": []string{"a:1"}, "labels": map[string]string{"zone": "a"}}})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "u" || password != "p" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(*list.Load())
	}))
	t.Cleanup(server.Close)
	f := find(t)
	f.apply(t, `
scrape_configs:
  - job_name: http
    http_sd_configs: [{url: "`+server.URL+`", refresh_interval: 200ms, basic_auth: {username: u, password: p}}]
`)
	f.eventually(t, "a:1")
	list.Store(&[]map[string]any{{"targets": []string{"b:1", "a:1"}}})
	f.eventually(t, "a:1", "b:1")
	server.Close() // what was found stays while the server is away
	time.Sleep(500 * time.Millisecond)
	f.eventually(t, "a:1", "b:1")
}

// pods is as much of Kubernetes' API as one watch of pods needs.
func pods(addresses ...string) http.Handler {
	var items []map[string]any
	for i, address := range addresses {
		host, _, _ := net.SplitHostPort(address)
		items = append(items, map[string]any{
			"metadata": map[string]any{"name": fmt.Sprint("tma-", i), "namespace": "monitoring", "uid": fmt.Sprint(i), "labels": map[string]string{"app": "tma-exporter"}},
			"spec":     map[string]any{"nodeName": "node", "containers": []any{map[string]any{"name": "exporter", "ports": []any{map[string]any{"containerPort": 10017, "protocol": "TCP"}}}}},
			"status":   map[string]any{"podIP": host, "phase": "Running"},
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("watch") != "" {
			if r.URL.Query().Get("sendInitialEvents") != "" {
				w.WriteHeader(http.StatusUnprocessableEntity) // of an old server: list, then watch
				return
			}
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		json.NewEncoder(w).Encode(map[string]any{
			"kind": "PodList", "apiVersion": "v1", "metadata": map[string]any{"resourceVersion": "1"}, "items": items,
		})
	})
}

func TestKubernetesDiscovery(t *testing.T) {
	server := httptest.NewServer(pods("10.0.0.1:0", "10.0.0.2:0"))
	t.Cleanup(server.CloseClientConnections)
	f := find(t)
	f.apply(t, `
scrape_configs:
  - job_name: pods
    kubernetes_sd_configs: [{role: pod, api_server: "`+server.URL+`", namespaces: {names: [monitoring]}}]
    relabel_configs: [{action: labelmap, regex: __meta_kubernetes_pod_label_(.+)}]
`)
	found := f.eventually(t, "10.0.0.1:10017", "10.0.0.2:10017")
	if found[0].Labels["app"] != "tma-exporter" {
		t.Errorf("labels are %v", found[0].Labels)
	}
}

// A job that is asked as before keeps its connections over a reload; one whose
// password changed doesn't. A job that is gone takes its targets and metrics along.
func TestApplyAgain(t *testing.T) {
	const jobs = `
scrape_configs:
  - job_name: a
    basic_auth: {username: u, password: %s}
    static_configs: [{targets: [a:1]}]
  - job_name: b
    static_configs: [{targets: [b:1]}]
`
	f := find(t)
	f.apply(t, fmt.Sprintf(jobs, "one"))
	before := f.eventually(t, "a:1", "b:1")
	f.apply(t, fmt.Sprintf(jobs, "two"))
	after := f.eventually(t, "a:1", "b:1")
	if after[0].Client == before[0].Client || after[1].Client != before[1].Client {
		t.Error("clients changed, or didn't, the wrong way round")
	}
	f.apply(t, "scrape_configs: [{job_name: b, static_configs: [{targets: [b:2]}]}]")
	f.eventually(t, "b:2")
	if n := testutil.CollectAndCount(f.metrics.discovered); n != 1 {
		t.Errorf("%d jobs have metrics", n)
	}
}
