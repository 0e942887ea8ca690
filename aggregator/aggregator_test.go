package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
	"github.com/traffic-monitor-agent/tma/internal/sketch/pairs"
)

// exporterOf serves one epoch that ended just now, and nothing more.
func exporterOf(t *testing.T, local string, flows ...epoch.Flow) *httptest.Server {
	t.Helper()
	var total epoch.Count
	for _, f := range flows {
		total.Add(f.Count)
	}
	// It covers the seconds before and after the epochs' own.
	begin := time.Now().Add(-4 * time.Second)
	var encoded [][]byte
	for n := range uint64(8) {
		e := &epoch.Epoch{
			Host: local, Sequence: n + 1,
			Start: begin.Add(time.Duration(n) * 500 * time.Millisecond), End: begin.Add(time.Duration(n+1) * 500 * time.Millisecond),
			LocalNetworks: []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr(local), 32)},
		}
		if n == 5 {
			e.Flows = flows
			e.Devices = []epoch.Device{{Name: "eth0", Total: total}}
			e.Sketches = []epoch.Sketch{{Of: epoch.OfFlows, HLL: new(hll.Sketch)}}
			e.SampledPairs = &pairs.Thinned{Pairs: []pairs.Pair{{Source: flows[0].Source, Destination: flows[0].Destination}}}
		}
		b, err := epoch.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		encoded = append(encoded, b)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		received := time.Now()
		batch := epoch.EncodeBatch([16]byte{1}, 1, 8, encoded)
		if r.URL.Query().Get("after") == "8" {
			select {
			case <-r.Context().Done():
			case <-time.After(2 * time.Second):
			}
			batch = epoch.EncodeBatch([16]byte{1}, 1, 8, nil)
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
		w.Write(epoch.AppendBatchClock(batch, received, time.Now()))
	}))
	t.Cleanup(server.Close)
	return server
}

func flowOf(source, destination string, bytes uint64) epoch.Flow {
	return epoch.Flow{
		Key: flow.Key{
			Source: netip.MustParseAddr(source).As16(), Destination: netip.MustParseAddr(destination).As16(),
			SourcePort: 50000, DestinationPort: 443, Protocol: flow.ProtocolTCP,
		},
		Count: epoch.Count{Packets: bytes / 100, Bytes: bytes},
	}
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "aggregator.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// get asks until the answer is as wanted, for ten seconds.
func get(t *testing.T, url string, ok func(status int, body string) bool) {
	t.Helper()
	getWith(t, http.DefaultClient, url, ok)
}

func getWith(t *testing.T, client *http.Client, url string, ok func(status int, body string) bool) {
	t.Helper()
	var last string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		response, err := client.Get(url)
		if err != nil {
			last = err.Error()
			continue
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if last = string(body); ok(response.StatusCode, last) {
			return
		}
	}
	t.Fatalf("%s: %s", url, last)
}

// The whole program: two exporters see the same flow, a third is not there.
func TestEndToEnd(t *testing.T) {
	shared := flowOf("10.0.0.1", "10.0.0.2", 9000)
	a := exporterOf(t, "10.0.0.1", shared)
	b := exporterOf(t, "10.0.0.2", shared, flowOf("192.0.2.7", "10.0.0.2", 1000))
	file := writeConfig(t, `
scrape_configs:
  - job_name: test
    static_configs:
      - targets: ["`+strings.TrimPrefix(a.URL, "http://")+`", "`+strings.TrimPrefix(b.URL, "http://")+`", "`+freeAddress(t)+`"]
`)
	address := freeAddress(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"--config.file", file, "--web.listen-address", address, "--log.level", "error"})
	}()

	base := "http://" + address
	get(t, base+"/v1/hhh?phi=0.2", func(_ int, body string) bool {
		var answer struct {
			Total        struct{ Bytes uint64 }
			HeavyHitters []struct {
				Prefix string
				Bytes  uint64
			} `json:"heavy_hitters"`
		}
		return json.Unmarshal([]byte(body), &answer) == nil && answer.Total.Bytes == 10_000 &&
			len(answer.HeavyHitters) == 1 && answer.HeavyHitters[0].Prefix == "10.0.0.1/32" && answer.HeavyHitters[0].Bytes == 9000
	})
	get(t, base+"/v1/exporters", func(_ int, body string) bool {
		return strings.Count(body, `"up":true`) == 2 && strings.Count(body, `"up":false`) == 1
	})
	get(t, base+"/metrics", func(_ int, body string) bool {
		return strings.Contains(body, `tma_hhh_bytes_per_second{dimension="source",prefix="10.0.0.1/32"}`) &&
			strings.Contains(body, "tma_aggregator_build_info{")
	})
	for _, path := range []string{"/", "/-/healthy", "/-/ready"} {
		get(t, base+path, func(status int, _ string) bool { return status == http.StatusOK })
	}
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the end is %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it doesn't end")
	}
}

func TestBadStarts(t *testing.T) {
	good := writeConfig(t, "retention: 5m\n")
	bad := writeConfig(t, "retention: long\n")
	web := writeConfig(t, "basic_auth_user: {}\n")
	for _, test := range []struct {
		arguments []string
		want      string
	}{
		{[]string{"--config.file", bad}, bad + `: retention: "long" isn't a duration; allowed: a duration such as 500ms, 15s or 1h`},
		{[]string{"--config.check", "--config.file", bad}, bad + `: retention: `},
		{[]string{"--config.file", "/nowhere.yml"}, "/nowhere.yml: "},
		{[]string{"--config.check", "--config.file", good, "--web.config.file", web}, "--web.config.file: yaml: unmarshal errors: line 1: field basic_auth_user not found"},
		{[]string{"--nonsense"}, "unknown long flag '--nonsense'"},
		{[]string{"--config.file", good, "--web.listen-address", "300.0.0.1:1", "--log.level", "error"}, "300.0.0.1"},
	} {
		err := run(t.Context(), test.arguments)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want %s", test.arguments, err, test.want)
		}
	}
	if err := run(t.Context(), []string{"--config.check", "--config.file", good}); err != nil {
		t.Errorf("a good configuration: %v", err)
	}
}
