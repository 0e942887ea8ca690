package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// liveExporter has an epoch for each half second since a time, each with the same
// flows.
func liveExporter(t *testing.T, since time.Time, local string, flows ...epoch.Flow) string {
	t.Helper()
	var total epoch.Count
	for _, f := range flows {
		total.Add(f.Count)
	}
	const length = 500 * time.Millisecond
	epochs := func(after uint64) (encoded [][]byte) {
		for n := after; since.Add(time.Duration(n+1)*length).Before(time.Now()) && len(encoded) < 64; n++ {
			start := since.Add(time.Duration(n) * length)
			b, err := epoch.Encode(&epoch.Epoch{
				Host: local, Sequence: n + 1, Start: start, End: start.Add(length), Flows: append([]epoch.Flow{}, flows...),
				Devices:       []epoch.Device{{Name: "eth0", Total: total}},
				LocalNetworks: []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr(local), 32)},
			})
			if err != nil {
				t.Error(err)
			}
			encoded = append(encoded, b)
		}
		return encoded
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		after, err := strconv.ParseUint(r.URL.Query().Get("after"), 10, 64)
		if err != nil {
			t.Error(err)
		}
		encoded := epochs(after)
		for deadline := time.Now().Add(time.Second); len(encoded) == 0 && time.Now().Before(deadline); encoded = epochs(after) {
			time.Sleep(20 * time.Millisecond)
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
		w.Write(epoch.EncodeBatch([16]byte{1}, 1, after+uint64(len(encoded)), encoded))
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// startAggregator runs the program until the test ends, and returns its address.
func startAggregator(t *testing.T, name string, targets ...string) string {
	t.Helper()
	text := fmt.Sprintf("scrape_configs: [{job_name: test, static_configs: [{targets: [%s]}]}]\n", strings.Join(targets, ", "))
	if name != "" {
		text += fmt.Sprintf("federation: {name: %s, delay: 2s}\n", name)
	}
	file, address := writeConfig(t, text), freeAddress(t)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"--config.file", file, "--web.listen-address", address, "--log.level", "error"})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return address
}

// An aggregator of aggregators of aggregators has the tree of one that scrapes all
// exporters itself.
func TestFederation(t *testing.T) {
	since := time.Now().Truncate(time.Second).Add(-25 * time.Second)
	var exporters []string
	flows := []epoch.Flow{
		flowOf("10.0.0.1", "10.0.0.2", 1000), flowOf("10.0.0.2", "10.0.0.3", 2000),
		flowOf("10.0.0.3", "10.0.0.4", 3000), flowOf("10.0.0.4", "10.0.0.1", 4000),
	}
	for i := range flows {
		exporters = append(exporters, liveExporter(t, since, fmt.Sprint("10.0.0.", i+1), flows[i], flows[(i+3)%4]))
	}
	flat := startAggregator(t, "", exporters...)
	east, west := startAggregator(t, "east", exporters[:2]...), startAggregator(t, "west", exporters[2:]...)
	top := startAggregator(t, "", startAggregator(t, "middle", east, west))

	from, to := since.Add(10*time.Second), since.Add(15*time.Second)
	query := fmt.Sprintf("/v1/tree?dimension=source&min_share=0&from=%s&to=%s", from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339))
	var trees []string
	for _, address := range []string{flat, top} {
		get(t, "http://"+address+query, func(_ int, body string) bool {
			var answer struct {
				Root json.RawMessage
			}
			var root struct{ Bytes, Lower, Upper uint64 }
			if json.Unmarshal([]byte(body), &answer) != nil || json.Unmarshal(answer.Root, &root) != nil || root.Bytes != 100_000 {
				return false
			}
			trees = append(trees, string(answer.Root))
			return true
		})
	}
	if trees[0] != trees[1] || !strings.Contains(trees[0], `"lower":100000,"upper":100000`) {
		t.Errorf("one level:\n%s\nthree:\n%s", trees[0], trees[1])
	}
	get(t, "http://"+top+"/v1/exporters", func(_ int, body string) bool { return strings.Contains(body, `"host":"middle"`) })
	get(t, "http://"+top+"/metrics", func(_ int, body string) bool {
		return regexp.MustCompile(`(?m)^tma_exporter_below\{exporter="[^"]*"\} 4$`).MatchString(body) &&
			regexp.MustCompile(`(?m)^tma_exporter_below_up\{exporter="[^"]*"\} 4$`).MatchString(body)
	})
	get(t, "http://"+flat+"/v1/epochs", func(status int, _ string) bool { return status == http.StatusNotFound })
}
