package api

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/networks"
)

// ask decodes an answer of 200.
func ask[A any](t *testing.T, f *fixture, target string) (answer A) {
	t.Helper()
	status, body := f.get(t, target)
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusOK {
		t.Fatalf("%s: %d %s", target, status, body)
	}
	return answer
}

// Of the fixture's 10,000 bytes 9,000 are under flows and 1,000 in 10.0.0.0/24.
func TestFilters(t *testing.T) {
	f := newFixture()
	f.store.SetNetworks(networks.NewTable([]networks.Network{named("10.0.0.0/8", "corp"), named("192.0.2.0/24", "dmz")}))
	f.traffic()
	for query, want := range map[string][2]uint64{
		"":                                       {10000, 0},
		"exporter=a:1":                           {9000, 1000},
		"protocol=tcp":                           {9000, 1000},
		"protocol=6&port=53":                     {1000, 1000},
		"protocol=udp":                           {0, 1000},
		"port=443":                               {8000, 1000},
		"source_port=50000":                      {9000, 1000},
		"source_port=443":                        {0, 1000},
		"destination_port=443":                   {8000, 1000},
		"source=10.0.0.0/8":                      {9000, 0},
		"source=10.0.0.1":                        {6000, 1000},
		"source=10.0.0.0/8&port=443":             {8000, 1000},
		"source=2001:db8::/32":                   {1000, 0},
		"source=2001:db8::/32&protocol=tcp":      {1000, 0},
		"destination=192.0.2.1":                  {8000, 0},
		"prefix=192.0.2.0/24":                    {8000, 0},
		"prefix=10.0.0.2":                        {2000, 1000},
		"direction=ingress":                      {9000, 1000},
		"direction=egress":                       {0, 1000},
		"network=dmz":                            {8000, 0},
		"source_network=corp":                    {9000, 0},
		"destination_network=unnamed":            {1000, 0},
		"source_network=corp&destination_port=1": {0, 1000},
	} {
		for _, path := range []string{"/v1/hhh?phi=0.01&", "/v1/hhh?dimension=source_destination&", "/v1/tree?dimension=destination&", "/v1/top?", "/v1/matrix?"} {
			got := ask[totals](t, f, path+query)
			if got.Total.Bytes != want[0] || path != "/v1/tree?dimension=destination&" && got.Unattributed.Bytes != want[1] {
				t.Errorf("%s%s: %d and %d that may be, want %d", path, query, got.Total.Bytes, got.Unattributed.Bytes, want)
			}
		}
	}
}

// Several values of exporter are any of them.
func TestSeveralExporters(t *testing.T) {
	f := newFixture()
	f.traffic()
	f.store.SetUp("b:1", true)
	if got := ask[totals](t, f, "/v1/top?exporter=a:1&exporter=b:1").Total.Bytes; got != 9000 {
		t.Errorf("both have %d", got)
	}
	if got := ask[totals](t, f, "/v1/top?exporter=b:1").Total.Bytes; got != 0 {
		t.Errorf("b has %d", got)
	}
}

// crowd is traffic of so many flows.
func (f *fixture) crowd(r *rand.Rand, flows int) {
	f.add(func(e *epoch.Epoch) {
		for i := range flows {
			source := fmt.Sprintf("10.%d.%d.%d", r.IntN(3), r.IntN(4), r.IntN(200))
			destination := fmt.Sprintf("192.%d.2.%d", r.IntN(3), r.IntN(100))
			x := flowOf(source, destination, uint16(i), uint64(100+r.IntN(50)))
			e.Flows = append(e.Flows, x)
		}
	})
}

// The pages of a top are the top, although epochs come in meanwhile.
func TestPages(t *testing.T) {
	f := newFixture()
	r := rand.New(rand.NewPCG(1, 1))
	f.crowd(r, 95)
	for _, by := range []string{"flow", "source", "destination", "service", "protocol", "exporter", "network"} {
		whole := ask[top](t, f, "/v1/top?limit=1000&by="+by)
		if whole.Next != "" {
			t.Errorf("by %s has %d entries, and more at %s", by, len(whole.Top), whole.Next)
		}
		var got []entry
		for next := "/v1/top?limit=10&by=" + by; next != ""; {
			page := ask[top](t, f, next)
			got = append(got, page.Top...)
			next = page.Next
			f.sequence += 4 // 2 s later
			f.now = f.now.Add(2 * time.Second)
			f.crowd(r, 20)
		}
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(whole.Top)
		if len(got) == 0 || string(a) != string(b) {
			t.Errorf("by %s the pages are\n%s, want\n%s", by, a, b)
		}
	}
	response := httptest.NewRecorder()
	f.ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/v1/top?limit=1", nil))
	if link := response.Header().Get("Link"); !strings.Contains(link, "offset=1") || !strings.HasSuffix(link, `; rel="next"`) {
		t.Errorf("the link is %q", link)
	}
}

// Whatever is asked, children add up to their parent.
func TestTreesAddUp(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for range 20 {
		f := newFixture()
		f.crowd(r, 200)
		f.traffic()
		for range 20 {
			target := fmt.Sprintf("/v1/tree?min_share=%v&depth=%d&max_nodes=%d", float64(r.IntN(5))/100, 1+r.IntN(6), 1+r.IntN(50))
			for _, option := range []string{"&dimension=destination", "&root=10.0.0.0/8", "&port=443", "&source=10.1.0.0/16", "&prefix=192.0.0.0/10", "&protocol=tcp"} {
				if r.IntN(3) == 0 {
					target += option
				}
			}
			answer := ask[tree](t, f, target)
			var check func(n *node)
			check = func(n *node) {
				var sum count
				for i := range n.Children {
					sum.Bytes += n.Children[i].Bytes
					sum.Packets += n.Children[i].Packets
					check(&n.Children[i])
				}
				if len(n.Children) > 0 && (sum.Bytes != n.Bytes || sum.Packets != n.Packets) {
					t.Errorf("%s: children of %s have %v of %v", target, n.Prefix, sum, n)
				}
			}
			check(&answer.Root)
		}
	}
}

// The cells of the matrix add up, those of filtered ones too.
func TestMatrixAddsUp(t *testing.T) {
	f := newFixture()
	f.store.SetNetworks(networks.NewTable([]networks.Network{named("10.0.0.0/8", "corp"), named("192.0.2.0/24", "dmz")}))
	f.traffic()
	for _, query := range []string{"", "port=443", "source=10.0.0.0/8"} {
		m := ask[matrix](t, f, "/v1/matrix?"+query)
		var sum uint64
		for _, c := range m.Matrix {
			sum += c.Bytes
		}
		if sum != m.Total.Bytes || m.Matrix[0].Source != "corp" || m.Matrix[0].Destination != "dmz" || m.Matrix[0].Bytes != 8000 {
			t.Errorf("%s: cells have %d of %d: %v", query, sum, m.Total.Bytes, m.Matrix)
		}
	}
}

func TestPairs(t *testing.T) {
	f := newFixture()
	f.traffic()
	answer := ask[heavyHitters](t, f, "/v1/hhh?dimension=source_destination&phi=0.5")
	if len(answer.HeavyHitters) == 0 || answer.HeavyHitters[0].Source != "10.0.0.1/32" || answer.HeavyHitters[0].Destination != "192.0.2.1/32" || answer.HeavyHitters[0].Bytes != 6000 {
		t.Errorf("heavy pairs are %v", answer.HeavyHitters)
	}
}

func TestSeriesOverTime(t *testing.T) {
	f := newFixture()
	f.traffic() // in the first second
	f.sequence = 20
	f.now = t0.Add(11 * time.Second)
	f.traffic() // in the eleventh
	for _, query := range []string{"step=5s&window=30s", "points=3&window=30s", "points=1", "step=5s&source=10.0.0.0/8", "step=5s&source=10.0.0.0/8&dimension=destination"} {
		s := ask[series](t, f, "/v1/series?"+query)
		var sum uint64
		for i, total := range s.TotalBytes {
			parts := s.RestBytes[i]
			for _, p := range s.Series {
				parts += p.Conditioned[i]
			}
			if parts != total {
				t.Errorf("%s: at %v parts have %d of %d", query, s.Times[i], parts, total)
			}
			sum += total
		}
		if sum != s.Total.Bytes || sum == 0 {
			t.Errorf("%s: the steps have %d of %d", query, sum, s.Total.Bytes)
		}
	}
	if s := ask[series](t, f, "/v1/series?points=3&window=30s"); len(s.Times) > 3 {
		t.Errorf("%d points", len(s.Times))
	}
	s := ask[series](t, f, "/v1/series?step=5s&window=30s")
	if s.StepSeconds != 5 || len(s.Series) == 0 || s.Series[0].Prefix != "10.0.0.0/24" {
		t.Errorf("the series are %v", s)
	}
}

// Rows of a table are RFC 4180: CRLF, and what would break a row in quotes.
func TestCSV(t *testing.T) {
	f := newFixture()
	f.traffic()
	for _, path := range []string{"/v1/hhh", "/v1/tree", "/v1/top", "/v1/cardinality", "/v1/exporters", "/v1/series", "/v1/matrix"} {
		status, body := f.get(t, path+"?format=csv")
		if status != http.StatusOK || !strings.Contains(body, "\r\n") && path != "/v1/exporters" {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
	for accept, want := range map[string]string{"text/csv": "text/csv; charset=utf-8; header=present", "text/csv;q=0.9, */*": "text/csv; charset=utf-8; header=present", "*/*, text/csv": "application/json", "": "application/json"} {
		r := httptest.NewRequest(http.MethodGet, "/v1/top?by=source&limit=1", nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		f.ServeHTTP(w, r)
		if got := w.Header().Get("Content-Type"); got != want {
			t.Errorf("Accept: %s gets %s", accept, got)
		}
	}
	if _, body := f.get(t, "/v1/top?by=source&limit=1&format=csv"); body != "source,bytes,packets,lower,upper\r\n10.0.0.1,6000,60,6000,7400" {
		t.Errorf("top is %q", body)
	}
	odd := table{header: []string{"a"}, rows: [][]string{{"x,\"y\"\nz"}}}
	encoded, err := odd.encode()
	rows, readErr := csv.NewReader(strings.NewReader(string(encoded))).ReadAll()
	if err != nil || readErr != nil || rows[1][0] != "x,\"y\"\nz" {
		t.Errorf("%q, %v, %v", encoded, err, readErr)
	}
}

// Who waits too long for a turn is told to come back, and who has gone isn't served.
func TestTurns(t *testing.T) {
	f := newFixture()
	f.configuration.QueueTimeout = 10 * time.Millisecond
	for range maxComputing {
		if err := f.turns.take(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/hhh", nil))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d, retry after %q", w.Code, w.Header().Get("Retry-After"))
	}
	if status, _ := f.get(t, "/-/healthy"); status != http.StatusOK {
		t.Errorf("healthy is %d", status)
	}
	f.turns.leave()
	if status, _ := f.get(t, "/v1/hhh"); status != http.StatusOK {
		t.Errorf("with a turn: %d", status)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.inTurn(gone, func() (any, error) {
		t.Error("computed for nobody")
		return nil, nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
