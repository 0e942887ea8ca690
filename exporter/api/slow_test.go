package api_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/exporter/api"
	"github.com/traffic-monitor-agent/tma/exporter/window"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// exporter is all of an exporter behind the drain, and its server with limits as those
// that the program sets.
type exporter struct {
	history *window.History
	sketch  *window.FlowSketch
	topk    *window.TopK
	handler http.Handler
	address string
	last    uint64 // sequence
}

func newExporter(t *testing.T) *exporter {
	t.Helper()
	x := &exporter{
		history: window.NewHistory(window.HistoryConfig{Flows: 1000, Retention: time.Hour, MaxBytes: 4 << 20}),
		topk:    window.NewTopK(20, 15*time.Second),
	}
	x.sketch = window.NewFlowSketch(x.history, time.Hour)
	handler, err := api.New(api.Config{
		Boot: boot, History: x.history, Top: x.topk.Top, CPU: &api.CPU{},
		Cardinality: window.NewCardinality().Estimates, EstimateFlows: x.sketch.Estimate,
	})
	if err != nil {
		t.Fatal(err)
	}
	x.handler = handler
	server := httptest.NewUnstartedServer(handler)
	server.Config.ReadHeaderTimeout, server.Config.MaxHeaderBytes = 2*time.Second, 16<<10
	server.Listener = smallBuffers{server.Listener}
	server.Start()
	// Those that never read would keep Close waiting for their deadline.
	t.Cleanup(server.CloseClientConnections)
	x.address = server.Listener.Addr().String()
	return x
}

// smallBuffers keeps the kernel from taking whole answers for clients that don't read.
type smallBuffers struct{ net.Listener }

func (l smallBuffers) Accept() (net.Conn, error) {
	connection, err := l.Listener.Accept()
	if err == nil {
		err = connection.(*net.TCPConn).SetWriteBuffer(4 << 10)
	}
	return connection, err
}

// add hands over an epoch as the drain does, of so many flows of any kind.
func (x *exporter) add(t *testing.T, flows int) {
	t.Helper()
	x.last++
	r := rand.New(rand.NewPCG(1, x.last))
	end := time.Unix(int64(x.last), 0)
	e := &epoch.Epoch{Host: "host-a", Sequence: x.last, Start: end.Add(-time.Second), End: end, Devices: []epoch.Device{{Name: "eth0"}}}
	for range flows {
		f := epoch.Flow{Count: epoch.Count{Packets: 1, Bytes: 60 + r.Uint64N(1<<20)}}
		f.Source, f.Destination = netip.AddrFrom4([4]byte{10, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())}).As16(), netip.AddrFrom4([4]byte{172, 16, byte(r.Uint32()), byte(r.Uint32())}).As16()
		f.SourcePort, f.DestinationPort, f.Protocol = uint16(r.Uint32()), 443, flow.ProtocolTCP
		e.Flows = append(e.Flows, f)
		e.Devices[0].Total.Add(f.Count)
	}
	if err := x.history.Add(e); err != nil {
		t.Fatal(err)
	}
	x.sketch.Add(e)
	x.topk.Add(e, x.history.Trimmed())
}

// attack opens connections that send what they are told and never read. They are
// closed when the test ends.
func (x *exporter) attack(t *testing.T, n int, sends string) {
	t.Helper()
	for range n {
		connection, err := net.Dial("tcp", x.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { connection.Close() })
		connection.(*net.TCPConn).SetReadBuffer(4096)
		if _, err := connection.Write([]byte(sends)); err != nil {
			t.Fatal(err)
		}
	}
}

// status asks for a path as a client that behaves does.
func (x *exporter) status(t *testing.T, path string) int {
	t.Helper()
	response, body := get(t, "http://"+x.address+path)
	if response.StatusCode != http.StatusOK {
		wantJSONError(t, response, body, response.StatusCode, "", "too many requests at once; allowed: "+map[string]string{
			"/v1/e": "32", "/v1/s": "2", "/v1/f": "2",
		}[path[:5]])
		if response.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %s without Retry-After", path, response.Status)
		}
	}
	return response.StatusCode
}

// Two hundred clients ask for everything and never read, others send headers without an
// end or nothing at all. Meanwhile epochs are handed over, each as soon as the one
// before is: if a client held what that needs, the test would hang. Clients that behave
// get their answer or are told to come again, and memory stays what is kept.
func TestNobodyDelaysTheDrain(t *testing.T) {
	x := newExporter(t)
	for range 64 {
		x.add(t, 1500)
	}
	runtime.GC()
	before := heapInUse()
	x.attack(t, 100, "GET /v1/epochs?after=0 HTTP/1.1\r\nHost: x\r\nAccept-Encoding: zstd\r\n\r\n")
	x.attack(t, 100, "GET /v1/epochs?after=0 HTTP/1.1\r\nHost: x\r\n\r\n")
	x.attack(t, 20, "GET /v1/flow?"+aFlow+"&window=1h HTTP/1.1\r\nHost: x\r\n\r\n")
	x.attack(t, 20, "GET /v1/snapshot HTTP/1.1\r\nHost: x\r\n\r\n")
	x.attack(t, 50, "GET /v1/epochs HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	x.attack(t, 50, "")
	// They take all places of the largest answers, and keep them until their time is up.
	for begun := time.Now(); x.status(t, "/v1/epochs?wait=0s&after=63") == http.StatusOK; time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			t.Fatal("clients that don't read take no place")
		}
	}
	answered := map[int]int{}
	for range 50 {
		x.add(t, 1500)
		for _, path := range []string{"/v1/epochs?wait=0s&after=" + fmt.Sprint(x.last-1), "/v1/snapshot", "/v1/flow?" + aFlow + "&window=1s"} {
			answered[x.status(t, path)]++
		}
	}
	if newest := x.history.After(0, 1, 1).Newest; newest != x.last || x.last != 114 {
		t.Errorf("%d epochs were handed over, %d are there", x.last, newest)
	}
	t.Logf("answers by status: %v", answered)
	if answered[http.StatusOK] == 0 {
		t.Error("clients that don't read take all places of all endpoints")
	}
	runtime.GC()
	if grown := heapInUse() - before; grown > 48<<20 {
		t.Errorf("clients that don't read take %d MiB", grown>>20)
	}
}

// stuckWriter is a client that has read nothing and never will, until the test ends.
type stuckWriter struct {
	header        http.Header
	stuck, settle chan struct{}
}

func (w *stuckWriter) Header() http.Header { return w.header }
func (w *stuckWriter) WriteHeader(int)     {}
func (w *stuckWriter) Write([]byte) (int, error) {
	w.stuck <- struct{}{}
	<-w.settle
	return 0, io.ErrClosedPipe
}

// Whatever an answer is in the middle of, an epoch is handed over, and others read.
func TestReadersHoldNoLock(t *testing.T) {
	x := newExporter(t)
	for range 4 {
		x.add(t, 1500)
	}
	settle := make(chan struct{})
	var handlers sync.WaitGroup
	for _, path := range []string{"/v1/epochs", "/v1/epochs plain", "/v1/snapshot", "/v1/flow?" + aFlow} {
		path, plain := strings.CutSuffix(path, " plain")
		w := &stuckWriter{http.Header{}, make(chan struct{}, 100), settle}
		request := httptest.NewRequest(http.MethodGet, path, nil)
		if !plain {
			request.Header.Set("Accept-Encoding", "zstd")
		}
		handlers.Go(func() { x.handler.ServeHTTP(w, request) })
		<-w.stuck
		x.add(t, 1500)
		if status := x.status(t, "/v1/epochs?wait=0s"); status != http.StatusOK {
			t.Errorf("%s: others get %d", path, status)
		}
	}
	close(settle)
	handlers.Wait()
}

func heapInUse() int {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int(stats.HeapInuse)
}

// Clients that send their headers slowly are cut off, and one with headers that are too
// large is told.
func TestHeadersAreBounded(t *testing.T) {
	x := newExporter(t)
	slow, err := net.Dial("tcp", x.address)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	fmt.Fprint(slow, "GET /v1/epochs HTTP/1.1\r\nHost: x\r\n")
	large, err := net.Dial("tcp", x.address)
	if err != nil {
		t.Fatal(err)
	}
	defer large.Close()
	go fmt.Fprintf(large, "GET /v1/epochs HTTP/1.1\r\nHost: x\r\nX-Large: %01000000d\r\n\r\n", 1)
	large.SetDeadline(time.Now().Add(20 * time.Second))
	response, err := http.ReadResponse(bufio.NewReader(large), nil)
	if err != nil || response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("large headers: %v, %v", response, err)
	}
	slow.SetDeadline(time.Now().Add(20 * time.Second))
	if n, err := slow.Read(make([]byte, 1)); n != 0 || err == nil || isTimeout(err) {
		t.Errorf("headers without an end: %d bytes, %v", n, err)
	}
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}
