package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/traffic-monitor-agent/tma/aggregator/scrape"
	"github.com/traffic-monitor-agent/tma/aggregator/store"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
)

var t0 = time.Unix(1_700_000_000, 0)

// fixture is an API over a store with known traffic, at a time that stands still.
type fixture struct {
	*API
	store    *store.Store
	statuses []scrape.Status
	now      time.Time
	sequence uint64
}

func newFixture() *fixture {
	f := &fixture{now: t0.Add(1 * time.Second)}
	now := func() time.Time { return f.now }
	f.store = store.New(store.DefaultConfiguration(), now)
	f.store.SetUp("a:1", true)
	f.API = New(Configuration{Phi: 0.01, Retention: 15 * time.Minute, MaxStreams: 2}, f.store,
		func() []scrape.Status { return f.statuses }, now, slog.New(slog.NewTextHandler(io.Discard, nil)))
	return f
}

// add appends an epoch of half a second.
func (f *fixture) add(change func(*epoch.Epoch)) {
	f.sequence++
	end := t0.Add(time.Duration(f.sequence) * 500 * time.Millisecond)
	e := &epoch.Epoch{Host: "a", Sequence: f.sequence, Start: end.Add(-500 * time.Millisecond), End: end}
	change(e)
	if err := f.store.Append("a:1", e); err != nil {
		panic(err)
	}
}

func flowOf(source, destination string, port uint16, bytes uint64) epoch.Flow {
	return epoch.Flow{
		Key: flow.Key{
			Source: netip.MustParseAddr(source).As16(), Destination: netip.MustParseAddr(destination).As16(),
			SourcePort: 50000, DestinationPort: port, Protocol: flow.ProtocolTCP,
		},
		Count: epoch.Count{Packets: bytes / 100, Bytes: bytes},
	}
}

// traffic is 10,000 bytes, 1,000 of them folded, and 400 unknown.
func (f *fixture) traffic() {
	distinct := &hll.Sketch{}
	for range 5 {
		distinct.Insert(rand.Uint64())
	}
	f.add(func(e *epoch.Epoch) {
		e.Flows = []epoch.Flow{
			flowOf("10.0.0.1", "192.0.2.1", 443, 6000), flowOf("10.0.0.2", "192.0.2.1", 443, 2000),
			flowOf("2001:db8::1", "2001:db8::2", 53, 1000),
		}
		for _, d := range flow.Dimensions {
			e.Ladders = append(e.Ladders, epoch.Ladder{Dimension: d, Entries: []epoch.Prefix{
				{Prefix: netip.MustParsePrefix("10.0.0.0/24"), Count: epoch.Count{Packets: 10, Bytes: 1000}},
			}})
		}
		e.Devices = []epoch.Device{{Remainder: epoch.Count{Packets: 4, Bytes: 400}}}
		e.Sketches = []epoch.Sketch{{Of: epoch.OfFlows, HLL: distinct}}
	})
}

func (f *fixture) get(t *testing.T, target string) (status int, body string) {
	t.Helper()
	r := httptest.NewRecorder()
	f.ServeHTTP(r, httptest.NewRequest(http.MethodGet, target, nil))
	hold(t, target, r.Code, r.Header(), r.Body.String())
	return r.Code, strings.TrimSpace(r.Body.String())
}

const span1m = `"from":"2023-11-14T22:12:21Z","to":"2023-11-14T22:13:20.5Z",`
const fixtureTotals = `"total":{"bytes":10000,"packets":100},"remainder":{"bytes":400,"packets":4},"uncertain":{"bytes":0,"packets":0},"unattributed":{"bytes":0,"packets":0},`

func TestAnswers(t *testing.T) {
	f := newFixture()
	f.traffic()
	for target, want := range map[string]string{
		"/v1/hhh?phi=0.1": `{` + span1m + `"dimension":"source","phi":0.1,` + fixtureTotals + `"heavy_hitters":[` +
			`{"prefix":"10.0.0.0/24","bytes":9000,"conditioned_bytes":1000,"packets":90,"lower":9000,"upper":9400},` +
			`{"prefix":"10.0.0.1/32","bytes":6000,"conditioned_bytes":6000,"packets":60,"lower":6000,"upper":7400},` +
			`{"prefix":"10.0.0.2/32","bytes":2000,"conditioned_bytes":2000,"packets":20,"lower":2000,"upper":3400},` +
			`{"prefix":"2001:db8::1/128","bytes":1000,"conditioned_bytes":1000,"packets":10,"lower":1000,"upper":1400}]}`,
		"/v1/hhh?phi=0.1&min_share=0.6&dimension=destination": `{` + span1m + `"dimension":"destination","phi":0.1,` + fixtureTotals + `"heavy_hitters":[` +
			`{"prefix":"192.0.2.1/32","bytes":8000,"conditioned_bytes":8000,"packets":80,"lower":8000,"upper":8400}]}`,
		"/v1/tree?min_share=0.85": `{` + span1m + `"dimension":"source","min_share":0.85,"least_bytes":8500,` + fixtureTotals +
			`"root":{"prefix":"all","bytes":10000,"self_bytes":0,"packets":100,"lower":10000,"upper":10400,"rest":false,"children":[` +
			`{"prefix":"0.0.0.0/0","bytes":9000,"self_bytes":0,"packets":90,"lower":9000,"upper":9400,"rest":false,"children":[` +
			`{"prefix":"10.0.0.0/8","bytes":9000,"self_bytes":0,"packets":90,"lower":9000,"upper":9400,"rest":false,"children":[` +
			`{"prefix":"10.0.0.0/16","bytes":9000,"self_bytes":0,"packets":90,"lower":9000,"upper":9400,"rest":false,"children":[` +
			`{"prefix":"10.0.0.0/24","bytes":9000,"self_bytes":1000,"packets":90,"lower":9000,"upper":9400,"rest":false,"children":[]}]}]}]},` +
			`{"prefix":"::/0","bytes":1000,"self_bytes":0,"packets":10,"lower":1000,"upper":1400,"rest":false,"children":[]}]}}`,
		"/v1/top?limit=1": `{` + span1m + `"by":"flow",` + fixtureTotals + `"flowless":{"bytes":1000,"packets":10},"top":[{"source":"10.0.0.1","destination":"192.0.2.1",` +
			`"source_port":50000,"destination_port":443,"protocol":"tcp","bytes":6000,"packets":60,"lower":6000,"upper":6400}],"next":"/v1/top?from=2023-11-14T22%3A12%3A21Z\u0026limit=1\u0026offset=1\u0026to=2023-11-14T22%3A13%3A20.5Z"}`,
		"/v1/top?by=source&limit=1": `{` + span1m + `"by":"source",` + fixtureTotals +
			`"flowless":{"bytes":1000,"packets":10},"top":[{"source":"10.0.0.1","bytes":6000,"packets":60,"lower":6000,"upper":7400}],"next":"/v1/top?by=source\u0026from=2023-11-14T22%3A12%3A21Z\u0026limit=1\u0026offset=1\u0026to=2023-11-14T22%3A13%3A20.5Z"}`,
		"/v1/top?by=destination&limit=1": `{` + span1m + `"by":"destination",` + fixtureTotals +
			`"flowless":{"bytes":1000,"packets":10},"top":[{"destination":"192.0.2.1","bytes":8000,"packets":80,"lower":8000,"upper":8400}],"next":"/v1/top?by=destination\u0026from=2023-11-14T22%3A12%3A21Z\u0026limit=1\u0026offset=1\u0026to=2023-11-14T22%3A13%3A20.5Z"}`,
		"/v1/top?by=service&limit=1": `{` + span1m + `"by":"service",` + fixtureTotals +
			`"flowless":{"bytes":1000,"packets":10},"top":[{"protocol":"tcp","port":443,"bytes":8000,"packets":80,"lower":8000,"upper":9400}],"next":"/v1/top?by=service\u0026from=2023-11-14T22%3A12%3A21Z\u0026limit=1\u0026offset=1\u0026to=2023-11-14T22%3A13%3A20.5Z"}`,
		"/v1/cardinality?window=1m": `{"window":"1m",` + span1m + `"estimates":[{"of":"flows","estimate":5,"relative_error":0.008125}]}`,
		"/v1/hhh?from=2023-11-14T22:13:05Z&to=2023-11-14T22:13:06Z": `{"from":"2023-11-14T22:13:05Z","to":"2023-11-14T22:13:06Z","dimension":"source","phi":0.01,` +
			`"total":{"bytes":0,"packets":0},"remainder":{"bytes":0,"packets":0},"uncertain":{"bytes":0,"packets":0},"unattributed":{"bytes":0,"packets":0},"heavy_hitters":[]}`,
		"/-/healthy": `{"status":"healthy"}`,
	} {
		status, body := f.get(t, target)
		if status != http.StatusOK || body != want {
			t.Errorf("%s: %d\n got %s\nwant %s", target, status, body, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	f := newFixture()
	for _, test := range []struct {
		target    string
		status    int
		parameter string
	}{
		{"/v1/hhh?dimension=both", 400, "dimension"},
		{"/v1/hhh?phi=0", 400, "phi"},
		{"/v1/hhh?phi=NaN", 400, "phi"},
		{"/v1/hhh?phi=1.1", 400, "phi"},
		{"/v1/hhh?phi=", 400, "phi"},
		{"/v1/hhh?phi=0.1&phi=0.2", 400, "phi"},
		{"/v1/hhh?min_share=-1", 400, "min_share"},
		{"/v1/hhh?limit=3", 400, "limit"},
		{"/v1/hhh?" + strings.Repeat("x", maxQuery+1), 400, ""},
		{"/v1/hhh?window=10", 400, "window"},
		{"/v1/hhh?window=0s", 400, "window"},
		{"/v1/hhh?window=16m", 400, "window"},
		{"/v1/hhh?from=yesterday&to=today", 400, "from"},
		{"/v1/hhh?from=2026-01-01T00:00:00Z", 400, "to"},
		{"/v1/hhh?to=2026-01-01T00:00:00Z", 400, "from"},
		{"/v1/hhh?from=2026-01-01T00:00:00Z&to=2026-01-01T00:00:00Z", 400, "to"},
		{"/v1/hhh?window=1m&from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z", 400, "window"},
		{"/v1/hhh?%zz", 400, ""},
		{"/v1/tree?phi=0.1", 400, "phi"},
		{"/v1/tree?min_share=2", 400, "min_share"},
		{"/v1/top?by=port", 400, "by"},
		{"/v1/top?limit=0", 400, "limit"},
		{"/v1/top?limit=10001", 400, "limit"},
		{"/v1/cardinality?of=flows", 400, "of"},
		{"/v1/exporters?up=1", 400, "up"},
		{"/v1/hhh?exporter=nobody", 400, "exporter"},
		{"/v1/hhh?direction=up", 400, "direction"},
		{"/v1/hhh?protocol=tpc", 400, "protocol"},
		{"/v1/hhh?protocol=256", 400, "protocol"},
		{"/v1/hhh?port=65536", 400, "port"},
		{"/v1/hhh?prefix=10.0.0.1/8", 400, "prefix"},
		{"/v1/hhh?source=::ffff:10.0.0.0/104", 400, "source"},
		{"/v1/hhh?destination=example.org", 400, "destination"},
		{"/v1/hhh?network=nowhere", 400, "network"},
		{"/v1/hhh?format=xml", 400, "format"},
		{"/v1/cardinality?protocol=tcp", 400, "protocol"},
		{"/v1/tree?dimension=source_destination", 400, "dimension"},
		{"/v1/tree?root=10.0.0.0/9", 400, "root"},
		{"/v1/tree?root=x", 400, "root"},
		{"/v1/tree?depth=0", 400, "depth"},
		{"/v1/tree?max_nodes=100001", 400, "max_nodes"},
		{"/v1/top?offset=-1", 400, "offset"},
		{"/v1/series?step=1500ms", 400, "step"},
		{"/v1/series?points=3601", 400, "points"},
		{"/v1/matrix?by=flow", 400, "by"},
		{"/v1/stream?query=matrix", 400, "query"},
		{"/v1/stream?query=cardinality&port=1", 400, "port"},
		{"/v1/stream?interval=1ms", 400, "interval"},
		{"/v1/stream?dimension=x", 400, "dimension"},
		{"/v1/stream", 426, ""},
		{"/v1/nothing", 404, ""},
		{"/v1/hhh/", 404, ""},
	} {
		status, body := f.get(t, test.target)
		var answer map[string]string
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			t.Errorf("%s: %v", test.target, err)
		}
		if status != test.status || answer["parameter"] != test.parameter || answer["error"] == "" || len(answer) != 2 {
			t.Errorf("%s: %d %s, want %d about %q", test.target, status, body, test.status, test.parameter)
		}
	}
}

func TestMethods(t *testing.T) {
	f := newFixture()
	r := httptest.NewRecorder()
	f.ServeHTTP(r, httptest.NewRequest(http.MethodPost, "/v1/hhh", nil))
	if r.Code != http.StatusMethodNotAllowed || r.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST is %d, allowed are %q", r.Code, r.Header().Get("Allow"))
	}
}

func TestExporters(t *testing.T) {
	f := newFixture()
	f.store.Exchanged("a:1", epoch.Exchange{ // half a second ahead, give or take 10 ms
		Requested: f.now.Add(-20 * time.Millisecond), Received: f.now.Add(490 * time.Millisecond), Sent: f.now.Add(490 * time.Millisecond), Answered: f.now,
	})
	f.statuses = []scrape.Status{
		{Target: scrape.Target{Name: "a:1", URL: "http://a:1/v1/epochs", Labels: map[string]string{"job": "x"}}, Host: "a", Up: true,
			LastEpoch: f.now.Add(-1500 * time.Millisecond), MissedEpochs: 3, ReceivedBytes: 99, Polls: 1},
		{Target: scrape.Target{Name: "b:1", URL: "http://b:1/v1/epochs"}, LastError: "connection refused"},
	}
	want := `{"exporters":[` +
		`{"name":"a:1","url":"http://a:1/v1/epochs","labels":{"job":"x"},"host":"a","up":true,"last_epoch":"2023-11-14T22:13:19.5Z","lag_seconds":1.5,"missed_epochs":3,"refused_epochs":0,"received_bytes":99,"last_error":"","clock_skew_seconds":0.5,"clock_skew_error_seconds":0.010001},` +
		`{"name":"b:1","url":"http://b:1/v1/epochs","labels":null,"host":"","up":false,"last_epoch":null,"lag_seconds":0,"missed_epochs":0,"refused_epochs":0,"received_bytes":0,"last_error":"connection refused","clock_skew_seconds":null,"clock_skew_error_seconds":null}],"next":""}`
	if status, body := f.get(t, "/v1/exporters"); status != 200 || body != want {
		t.Errorf("%d\n got %s\nwant %s", status, body, want)
	}
	if status, body := f.get(t, "/-/ready"); status != 503 || !strings.Contains(body, "b:1") {
		t.Errorf("ready is %d %s, but b wasn't scraped", status, body)
	}
	f.statuses[1].Polls = 1
	if status, _ := f.get(t, "/-/ready"); status != 200 {
		t.Errorf("ready is %d", status)
	}
}

// Snapshots are shared while nothing changes, and never beyond that.
func TestMemo(t *testing.T) {
	f := newFixture()
	f.traffic()
	first := f.memo.last(time.Minute, 0, filter{})
	if f.memo.last(time.Minute, 0, filter{}) != first {
		t.Error("two snapshots of the same")
	}
	f.traffic()
	if got := f.memo.last(time.Minute, 0, filter{}).trees[flow.Source]().Total().Bytes; got != 20000 {
		t.Errorf("%d bytes after a change", got)
	}
	second := f.memo.last(time.Minute, 0, filter{})
	f.now = f.now.Add(time.Second)
	if f.memo.last(time.Minute, 0, filter{}) == second {
		t.Error("the window didn't slide")
	}
	for i := range 100 {
		f.memo.last(time.Duration(i+1)*time.Second, 0, filter{})
	}
	if len(f.memo.snapshots) > maxSnapshots {
		t.Errorf("%d snapshots are kept", len(f.memo.snapshots))
	}
}

// dial opens a stream.
func dial(t *testing.T, server *httptest.Server, query string) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, server.URL+"/v1/stream"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(1 << 20)
	t.Cleanup(func() { conn.CloseNow() })
	return conn
}

// receive reads messages until one has so many bytes in total.
func receive(t *testing.T, conn *websocket.Conn, bytes uint64) map[string]any {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		_, data, err := conn.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		if m["total"].(map[string]any)["bytes"] == float64(bytes) {
			return m
		}
	}
}

func TestStream(t *testing.T) {
	f := newFixture()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	conn := dial(t, server, "?window=1m&phi=0.5&dimension=source")
	receive(t, conn, 0)
	began := time.Now()
	f.traffic()
	m := receive(t, conn, 10000)
	t.Logf("a merged epoch was in a message after %v", time.Since(began))
	hitter := m["heavy_hitters"].([]any)[0].(map[string]any)
	if hitter["prefix"] != "10.0.0.1" || hitter["value"] != 6000.0 || hitter["bytes"] != 6000.0 {
		t.Errorf("the heaviest is %v", hitter)
	}
	if got := m["cardinality"].(map[string]any)["flows"]; got != 5.0 {
		t.Errorf("%v flows", got)
	}
	if m["timestamp"] != "2023-11-14T22:13:21Z" || m["to"] != "2023-11-14T22:13:20.5Z" || m["window"] != "1m" {
		t.Errorf("the message is %v", m)
	}
	f.Shutdown()
	for {
		if _, _, err := conn.Read(t.Context()); err != nil {
			if websocket.CloseStatus(err) != websocket.StatusGoingAway {
				t.Errorf("the end is %v", err)
			}
			return
		}
	}
}

// While a reader doesn't read, changes add up: it doesn't get one message each.
func TestSlowReaderGetsTheLatest(t *testing.T) {
	f := newFixture()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	conn := dial(t, server, "?window=1m&interval=1s")
	receive(t, conn, 0)
	for range 18 {
		f.traffic()
	}
	messages := 0
	for {
		_, data, err := conn.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		messages++
		if strings.Contains(string(data), fmt.Sprintf(`"total":{"bytes":%d,`, 180_000)) {
			break
		}
	}
	if messages > 2 {
		t.Errorf("%d messages for 18 epochs within a second", messages)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	f := newFixture()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	for range 2 {
		receive(t, dial(t, server, ""), 0)
	}
	_, response, err := websocket.Dial(t.Context(), server.URL+"/v1/stream", nil)
	if err == nil || response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a third stream: %v", err)
	}
}
