package api

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// What a stream sends is documented, whatever it is about.
func TestStreamedAnswers(t *testing.T) {
	f := newFixture()
	f.traffic()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	t.Cleanup(f.Shutdown)
	schema := documented(t).Components.Schemas["streamMessage"].Value
	for _, query := range []string{
		"?query=hhh&window=1m&protocol=tcp", "?query=hhh&window=1m&dimension=source_destination", "?query=tree&window=1m&root=10.0.0.0/8&port=443",
		"?query=top&window=1m&by=source&limit=1", "?query=cardinality&window=1m",
	} {
		conn := dial(t, server, query)
		_, data, err := conn.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		holdJSON(t, query, schema, string(data))
		conn.CloseNow()
	}
}

// Streams that ask the same share a computation, which ends with the last of them.
func TestEqualStreamsShare(t *testing.T) {
	f := newFixture()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	t.Cleanup(f.Shutdown)
	f.configuration.MaxStreams = 10
	hubs := func() int {
		f.hubs.mu.Lock()
		defer f.hubs.mu.Unlock()
		return len(f.hubs.byKey)
	}
	var conns []*websocket.Conn
	for _, query := range []string{"?phi=0.1&dimension=source", "?dimension=source&phi=0.1", "?phi=0.1&dimension=source&interval=1s", "?phi=0.2"} {
		conns = append(conns, dial(t, server, query))
		receive(t, conns[len(conns)-1], 0)
	}
	if got := hubs(); got != 2 {
		t.Errorf("%d computations for two questions", got)
	}
	for _, conn := range conns {
		conn.CloseNow()
	}
	for deadline := time.Now().Add(10 * time.Second); hubs() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d computations for nobody", hubs())
		}
	}
}

// A browser says from where a page is; only the aggregator's own may open a stream, and
// only its own may read answers.
func TestOrigins(t *testing.T) {
	f := newFixture()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	t.Cleanup(f.Shutdown)
	for origin, want := range map[string]int{"": http.StatusSwitchingProtocols, server.URL: http.StatusSwitchingProtocols, "http://example.org": http.StatusForbidden} {
		conn, response, err := websocket.Dial(t.Context(), server.URL+"/v1/stream", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {origin}}})
		if response == nil || response.StatusCode != want {
			t.Errorf("%q: %v", origin, err)
		}
		if conn != nil {
			conn.CloseNow()
		}
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/v1/hhh", nil)
	r.Header.Set("Origin", "http://example.org")
	f.ServeHTTP(w, r)
	if got := w.Header().Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("%q may read answers", got)
	}
}

// 500 streams at once, of which 50 never read: all others get a message each second while
// epochs come in, memory stays bounded, and the CPU has time for other things.
func TestFiveHundredStreams(t *testing.T) {
	const streams, silent, seconds = 500, 50, 5
	f := newFixture()
	f.configuration.MaxStreams = streams
	r := rand.New(rand.NewPCG(7, 7))
	f.crowd(r, 1000)
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	t.Cleanup(f.Shutdown)
	ctx, cancel := context.WithCancel(t.Context())
	before, cpu := heap(), cpuTime(t)
	var received [streams]atomic.Int64
	var readers sync.WaitGroup
	for i := range streams {
		conn := dial(t, server, streamOf(i))
		if i >= silent {
			readers.Go(func() { count500(ctx, conn, &received[i]) })
		}
	}
	began := time.Now()
	for range 2 * seconds {
		f.crowd(r, 1000)
		time.Sleep(500 * time.Millisecond)
	}
	took := time.Since(began)
	cores, grown := (cpuTime(t)-cpu).Seconds()/took.Seconds(), heap()-before
	cancel()
	readers.Wait()
	least := received[silent].Load()
	for i := silent; i < streams; i++ {
		least = min(least, received[i].Load())
	}
	t.Logf("at least %d messages each in %v; %.2f cores with the clients; %d KiB more heap", least, took, cores, grown>>10)
	// Half of what is due: the machine may be busy with other things.
	if least < seconds/2 {
		t.Errorf("a stream got %d messages in %v", least, took)
	}
	if grown > 256<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
}

// streamOf is some twenty questions, each asked by several.
func streamOf(i int) string {
	switch i % 4 {
	case 0:
		return fmt.Sprintf("?query=hhh&window=1m&phi=0.%02d", 5+i%10)
	case 1:
		return fmt.Sprintf("?query=tree&window=1m&min_share=0.%02d&destination_port=%d", 1+i%5, i%5)
	case 2:
		return fmt.Sprintf("?query=top&window=1m&limit=%d", 5+i%5)
	}
	return "?query=cardinality&window=1m"
}

func count500(ctx context.Context, conn *websocket.Conn, received *atomic.Int64) {
	for {
		_, data, err := conn.Read(ctx)
		if err != nil {
			return
		}
		if json.Valid(data) {
			received.Add(1)
		}
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
