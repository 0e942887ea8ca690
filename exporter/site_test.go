package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/promslog"

	"github.com/traffic-monitor-agent/tma/exporter/config"
)

// site is what the program serves, without a capture.
func site(t *testing.T, w *windows, o *config.Options) http.Handler {
	t.Helper()
	endpoints, err := w.endpoints()
	must(t, err)
	reload := newReloader(nil, &o.Config, nil, w, promslog.NewNopLogger())
	registry := w.registry(w.newHealth(sampleSource{}, &o.Config), reload)
	handler, err := newSite(o, metricsHandler(registry, promslog.NewNopLogger()), endpoints, reload)
	must(t, err)
	return handler
}

// serving is a site that has had one epoch, on a device.
func serving(t *testing.T, args ...string) *httptest.Server {
	t.Helper()
	options, err := config.Parse(args)
	must(t, err)
	server := httptest.NewServer(site(t, sampleWindows(t, options), options))
	t.Cleanup(server.Close)
	return server
}

// ask returns the answer to a request, header fields given as pairs.
func ask(t *testing.T, method, url string, header ...string) (response *http.Response, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	must(t, err)
	for pair := range slices.Chunk(header, 2) {
		request.Header.Set(pair[0], pair[1])
	}
	response, err = http.DefaultClient.Do(request)
	must(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(t, err)
	return response, string(text)
}

var link = regexp.MustCompile(`href="(/[^"]*)"`)

// links returns where the landing page leads to on the same server.
func links(t *testing.T, server *httptest.Server) (paths []string) {
	t.Helper()
	_, body := ask(t, http.MethodGet, server.URL+"/")
	for _, match := range link.FindAllStringSubmatch(body, -1) {
		paths = append(paths, match[1])
	}
	return paths
}

func TestLandingPageLeadsEverywhere(t *testing.T) {
	server := serving(t, "--web.telemetry-path=/telemetry")
	got := links(t, server)
	for _, want := range []string{"/telemetry", "/v1/epochs", "/-/healthy", "/-/ready"} {
		if !slices.Contains(got, want) {
			t.Errorf("no link to %s in %v", want, got)
		}
	}
	for _, path := range got {
		if response, body := ask(t, http.MethodGet, server.URL+path); response.StatusCode != http.StatusOK {
			t.Errorf("%s: %s: %s", path, response.Status, body)
		}
	}
}

var pathRow = regexp.MustCompile("(?m)^\\| `(/[^`]*)`")

// What the documentation says is served is served, and it leaves out no link.
func TestPathsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/configuration.md")
	must(t, err)
	server := serving(t, "--web.enable-pprof")
	var documented []string
	for _, match := range pathRow.FindAllSubmatch(text, -1) {
		documented = append(documented, string(match[1]))
	}
	for _, path := range documented {
		if response, _ := ask(t, http.MethodGet, server.URL+path); response.StatusCode == http.StatusNotFound {
			t.Errorf("%s is documented and not there", path)
		}
	}
	for _, path := range links(t, server) {
		if !slices.Contains(documented, path) && !strings.HasPrefix(path, "/debug/pprof/") {
			t.Errorf("%s is there and not documented in %v", path, documented)
		}
	}
}

func TestProfilesOnlyByTheFlag(t *testing.T) {
	paths := []string{"/debug/pprof/", "/debug/pprof/heap?debug=1", "/debug/pprof/cmdline", "/debug/pprof/symbol", "/debug/pprof/profile?seconds=1", "/debug/pprof/trace?seconds=0.1"}
	without, with := serving(t), serving(t, "--web.enable-pprof")
	for _, path := range paths {
		if response, _ := ask(t, http.MethodGet, without.URL+path); response.StatusCode != http.StatusNotFound {
			t.Errorf("%s without the flag: %s", path, response.Status)
		}
		if response, body := ask(t, http.MethodGet, with.URL+path); response.StatusCode != http.StatusOK {
			t.Errorf("%s with the flag: %s: %s", path, response.Status, body)
		}
	}
	isProfile := func(path string) bool { return strings.HasPrefix(path, "/debug/pprof/") }
	if got := links(t, without); slices.ContainsFunc(got, isProfile) {
		t.Errorf("links to profiles without the flag: %v", got)
	}
	if got := links(t, with); !slices.ContainsFunc(got, isProfile) {
		t.Errorf("no links to profiles with the flag: %v", got)
	}
}

func TestWrongMethods(t *testing.T) {
	server := serving(t)
	for path, wrong := range map[string][]string{
		"/":           {"POST", "DELETE"},
		"/metrics":    {"POST", "PUT"},
		"/v1/epochs":  {"POST", "DELETE"},
		"/-/healthy":  {"POST"},
		"/-/ready":    {"PUT"},
		"/-/reload":   {"GET", "HEAD", "DELETE"},
		"/v1/nothing": nil,
	} {
		for _, method := range wrong {
			response, _ := ask(t, method, server.URL+path)
			if response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") == "" {
				t.Errorf("%s %s: %s, Allow: %q", method, path, response.Status, response.Header.Get("Allow"))
			}
		}
	}
}

func TestUnknownPaths(t *testing.T) {
	server := serving(t, "--web.telemetry-path=/telemetry")
	for _, path := range []string{"/metrics", "/nothing", "/config", "/v1/config", "/-/config", "/-/quit", "/v1/nothing", "/v1/epochs/1", "/telemetry/"} {
		response, body := ask(t, http.MethodGet, server.URL+path)
		if response.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, response.Status)
		}
		if !strings.HasPrefix(path, "/v1/") {
			continue
		}
		var answer struct{ Error string }
		if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Error == "" || response.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %q of type %s, %v", path, body, response.Header.Get("Content-Type"), err)
		}
	}
}

// What a scraper asks for it gets: text, or OpenMetrics with created samples.
func TestMetricsFormats(t *testing.T) {
	server := serving(t)
	for _, test := range []struct {
		name, accept, kind string
		with, without      []string
	}{
		{"text", "", "text/plain; version=0.0.4",
			[]string{"# TYPE tma_capture_bytes_total counter\n", `tma_capture_drain_duration_seconds_bucket{le="0.001"} 1`},
			[]string{"_created", "# EOF"}},
		{"OpenMetrics", "application/openmetrics-text; version=1.0.0", "application/openmetrics-text; version=1.0.0",
			[]string{"# TYPE tma_capture_bytes counter\n", `tma_capture_bytes_created{device="eth0",direction="egress"} 100`,
				"tma_capture_drain_duration_seconds_created ", "tma_capture_epochs_created ", "\n# EOF\n"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			response, body := ask(t, http.MethodGet, server.URL+"/metrics", "Accept", test.accept)
			if kind := response.Header.Get("Content-Type"); !strings.HasPrefix(kind, test.kind) {
				t.Errorf("type %s", kind)
			}
			for _, want := range test.with {
				if !strings.Contains(body, want) {
					t.Errorf("no %q in\n%s", want, body)
				}
			}
			for _, bad := range test.without {
				if strings.Contains(body, bad) {
					t.Errorf("there is %q in\n%s", bad, body)
				}
			}
		})
	}
}

// In protobuf the histogram is native, too.
func TestNativeHistogram(t *testing.T) {
	const kind = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
	response, body := ask(t, http.MethodGet, serving(t).URL+"/metrics", "Accept", kind)
	decoder := expfmt.NewDecoder(strings.NewReader(body), expfmt.ResponseFormat(response.Header))
	var family dto.MetricFamily
	for family.GetName() != "tma_capture_drain_duration_seconds" {
		family.Reset()
		must(t, decoder.Decode(&family))
	}
	h := family.Metric[0].GetHistogram()
	if h.GetSampleCount() != 1 || h.Schema == nil || len(h.PositiveSpan) == 0 || len(h.Bucket) == 0 {
		t.Errorf("got %v, want one observation in classic and native buckets", h)
	}
}
