package api_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/exporter/api"
	"github.com/traffic-monitor-agent/tma/exporter/window"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/fold"
)

// exampleServer has seen four epochs of a small site: a connection, a question about a
// name, and 40 hosts that were pinged, of which an epoch sends two flows.
func exampleServer(t *testing.T) *httptest.Server {
	t.Helper()
	history := window.NewHistory(window.HistoryConfig{Flows: 2, Retention: time.Hour, MaxBytes: 1 << 20})
	sketch, topk, cardinality := window.NewFlowSketch(history, time.Hour), window.NewTopK(2, 2*time.Second), window.NewCardinality()
	ledger := fold.NewLedger(fold.LedgerConfig{Entries: 4096, LadderEntries: 64, SketchWidth: 64, Points: 4})
	defer ledger.Free()
	for sequence := range uint64(4) {
		e := exampleEpoch(ledger, sequence+1)
		if err := history.Add(e); err != nil {
			t.Fatal(err)
		}
		sketch.Add(e)
		topk.Add(e, history.Trimmed())
		cardinality.Add(e)
		ledger.Reset(0)
	}
	cpu := &api.CPU{}
	cpu.Sample(time.Now().Add(-time.Minute))
	handler, err := api.New(api.Config{
		Version: "1.2.3", Boot: boot, History: history, Top: topk.Top,
		Cardinality: cardinality.Estimates, EstimateFlows: sketch.Estimate, CPU: cpu,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

func exampleEpoch(ledger *fold.Ledger, sequence uint64) *epoch.Epoch {
	end := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(sequence) * 500 * time.Millisecond)
	e := &epoch.Epoch{Host: "host-a", Sequence: sequence, Start: end.Add(-500 * time.Millisecond), End: end}
	device := epoch.Device{Name: "eth0", Direction: flow.Egress}
	book := func(source, destination string, sourcePort, destinationPort uint16, protocol uint8, packets, bytes uint64) {
		r := fold.Record{Point: 3, Count: epoch.Count{Packets: packets, Bytes: bytes}, Key: flow.Key{
			Source: netip.MustParseAddr(source).As16(), Destination: netip.MustParseAddr(destination).As16(),
			SourcePort: sourcePort, DestinationPort: destinationPort, Protocol: protocol,
		}}
		r.Hash = r.Key.Hash(&flow.HashSeed{1, 2, 3, 4, 5})
		device.Total.Add(r.Count)
		ledger.Add(0, &r)
	}
	book("192.0.2.10", "198.51.100.7", 40312, 443, flow.ProtocolTCP, 900, 1_250_000)
	book("2001:db8::10", "2001:db8:53::1", 51000, 53, flow.ProtocolUDP, 8, 900)
	for host := range 40 {
		book("192.0.2.10", netip.AddrFrom4([4]byte{203, 0, 113, byte(host)}).String(), 8, 0, flow.ProtocolICMP, 1, 98)
	}
	b := ledger.Close(0)
	e.Devices, e.Flows, e.Ladders, e.Sketches, e.FoldedFlows = []epoch.Device{device}, b.Flows, b.Ladders, b.Sketches, b.Folded
	return e
}

// getJSON returns an answer's fields, without those that are never the same.
func getJSON(t *testing.T, url string) map[string]any {
	t.Helper()
	response, body := get(t, url)
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%s, %s: %s", response.Status, response.Header.Get("Content-Type"), body)
	}
	return fields(t, body)
}

func fields(t *testing.T, body []byte) map[string]any {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal(body, &all); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"timestamp", "agent_cpu", "agent_cpu_seconds"} {
		delete(all, name)
	}
	return all
}

// The documentation's examples are what is answered. Each stands behind its request.
func TestDocumentedAnswers(t *testing.T) {
	server := exampleServer(t)
	document, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?s)`GET (/v1/(?:flow|snapshot)[^`]*)` answers\n\n```json\n(.*?)```").FindAllSubmatch(document, -1)
	if len(examples) != 3 {
		t.Fatalf("%d examples, want 3", len(examples))
	}
	for _, example := range examples {
		path := string(example[1])
		if got, want := getJSON(t, server.URL+path), fields(t, example[2]); !reflect.DeepEqual(got, want) {
			_, body := get(t, server.URL+path)
			t.Errorf("%s answers\n%s", path, body)
		}
	}
	for _, name := range []string{"after", "boot_id", "wait", "source", "destination", "protocol", "source_port", "destination_port", "window"} {
		if !strings.Contains(string(document), "`"+name+"`") {
			t.Errorf("the parameter %s isn't documented", name)
		}
	}
}

func TestSnapshot(t *testing.T) {
	server := exampleServer(t)
	_, body := get(t, server.URL+"/v1/snapshot")
	var got struct {
		Timestamp time.Time
		AgentCPU  float64 `json:"agent_cpu"`
		Over      float64 `json:"agent_cpu_seconds"`
		HLL       struct {
			Summary struct{ Cardinalities map[string]map[string]float64 }
		}
	}
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	if age := time.Since(got.Timestamp); age < 0 || age > time.Minute {
		t.Errorf("timestamp %v", got.Timestamp)
	}
	if got.AgentCPU < 0 || got.AgentCPU > 1000 || got.Over < 60 || got.Over > 120 {
		t.Errorf("%v CPUs over %v s", got.AgentCPU, got.Over)
	}
	if flows := got.HLL.Summary.Cardinalities["flows"]["10s"]; flows < 41 || flows > 43 {
		t.Errorf("%v flows, want 42", flows)
	}
}

// Both names of a parameter mean the same, and an address may be written in any way.
func TestFlowAliases(t *testing.T) {
	server := exampleServer(t)
	want := getJSON(t, server.URL+"/v1/flow?source=192.0.2.10&destination=198.51.100.7&protocol=tcp&source_port=40312&destination_port=443")
	for _, query := range []string{
		"src=192.0.2.10&dst=198.51.100.7&protocol=6&source_port=40312&destination_port=443&window=15s",
		"protocol=tcp&destination_port=443&source_port=40312&dst=::ffff:198.51.100.7&source=192.0.2.10",
	} {
		if got := getJSON(t, server.URL+"/v1/flow?"+query); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	if want["bytes"] != 4*1_250_000.0 || want["exact"] != true || want["epochs"] != 4.0 {
		t.Errorf("got %v", want)
	}
	if got := getJSON(t, server.URL+"/v1/flow?src=192.0.2.99&dst=198.51.100.9&protocol=gre"); got["lower"] != 0.0 || got["upper"].(float64) > 4*2*98 {
		t.Errorf("a flow that never was: %v", got)
	}
}

// Before the first epoch, answers say so.
func TestNoEpochYet(t *testing.T) {
	server, _ := newServer(t, 0)
	for _, path := range []string{"snapshot", "flow?" + aFlow} {
		response, body := get(t, server.URL+"/v1/"+path)
		wantJSONError(t, response, body, http.StatusServiceUnavailable, "", "no epoch yet")
	}
}
