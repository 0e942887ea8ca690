package scrape

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/poll"
)

// fakeExporter keeps epochs and serves them as an exporter does.
type fakeExporter struct {
	t        *testing.T
	mu       sync.Mutex
	boot     [16]byte
	epochs   []*epoch.Epoch
	grown    chan struct{} // closed and replaced when there are more
	requests []string
	answer   func(http.ResponseWriter, *http.Request) bool // answers instead, if true
}

func newFakeExporter(t *testing.T) *fakeExporter {
	return &fakeExporter{t: t, boot: [16]byte{1}, grown: make(chan struct{})}
}

// add makes epochs with the given sequences.
func (f *fakeExporter) add(sequences ...uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range sequences {
		end := time.Unix(1_700_000_000, 0).Add(time.Duration(n) * time.Second)
		f.epochs = append(f.epochs, &epoch.Epoch{Host: "fake", Sequence: n, Start: end.Add(-time.Second), End: end})
	}
	close(f.grown)
	f.grown = make(chan struct{})
}

// restart is another run, without epochs.
func (f *fakeExporter) restart() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.boot[0]++
	f.epochs = nil
}

func (f *fakeExporter) instead(answer func(http.ResponseWriter, *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

// after returns the encoded epochs that a request is about, and what tells of more.
func (f *fakeExporter) after(r *http.Request) (batch []byte, n int, more chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	after, err := strconv.ParseUint(r.URL.Query().Get("after"), 10, 64)
	if err != nil {
		f.t.Errorf("after: %v", err)
	}
	if r.URL.Query().Get("boot_id") != hex.EncodeToString(f.boot[:]) {
		after = 0
	}
	var encoded [][]byte
	for _, e := range f.epochs {
		if e.Sequence > after && len(encoded) < 64 {
			b, err := epoch.Encode(e)
			if err != nil {
				f.t.Error(err)
			}
			encoded = append(encoded, b)
		}
	}
	return epoch.EncodeBatch(f.boot, 1, 1, encoded), len(encoded), f.grown
}

func (f *fakeExporter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.requests = append(f.requests, r.URL.RawQuery)
	answer := f.answer
	f.mu.Unlock()
	if answer != nil && answer(w, r) {
		return
	}
	wait, err := time.ParseDuration(r.URL.Query().Get("wait"))
	if err != nil {
		f.t.Errorf("wait: %v", err)
	}
	batch, n, more := f.after(r)
	if n == 0 {
		select {
		case <-more:
		case <-time.After(wait):
		case <-r.Context().Done():
		}
		batch, _, _ = f.after(r)
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	if r.Header.Get("Accept-Encoding") == "zstd" {
		w.Header().Set("Content-Encoding", "zstd")
		batch = compress(f.t, batch)
	}
	w.Write(batch)
}

func compress(t *testing.T, b []byte) []byte {
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer encoder.Close()
	return encoder.EncodeAll(b, nil)
}

// event is a call of the sink: an epoch's sequence, or up, or down.
type event string

// sink reports what it is told, changes of up only.
type sink struct {
	mu     sync.Mutex
	up     map[string]bool
	events chan event
	refuse error
}

func newSink() *sink { return &sink{up: make(map[string]bool), events: make(chan event, 1000)} }

func (s *sink) Append(_ string, e *epoch.Epoch) error {
	s.events <- event(fmt.Sprint(e.Sequence))
	return s.refuse
}

func (s *sink) Exchanged(string, epoch.Exchange) {}

func (s *sink) SetUp(name string, up bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if was, known := s.up[name]; !known || was != up {
		s.up[name] = up
		s.events <- event(map[bool]string{true: "up", false: "down"}[up])
	}
}

// expect waits for events in their order.
func (s *sink) expect(t *testing.T, events ...event) {
	t.Helper()
	for _, want := range events {
		select {
		case got := <-s.events:
			if got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("no %q after ten seconds", want)
		}
	}
}

var fast = Configuration{Interval: time.Millisecond, Backoff: poll.Backoff{Least: time.Millisecond, Greatest: 4 * time.Millisecond}}

func start(t *testing.T, s Sink, timeout time.Duration, servers ...*httptest.Server) *Scraper {
	t.Helper()
	var targets []Target
	for _, server := range servers {
		targets = append(targets, Target{
			Name: strings.TrimPrefix(server.URL, "http://"), URL: server.URL + "/v1/epochs", Timeout: timeout,
		})
	}
	scraper := New(fast, targets, s, slog.New(slog.NewTextHandler(io.Discard, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		scraper.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return scraper
}

// eventually waits until a target's status is as wanted.
func eventually(t *testing.T, s *Scraper, i int, ok func(Status) bool) Status {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		status := s.Statuses()[i]
		if ok(status) {
			return status
		}
		if time.Now().After(deadline) {
			t.Fatalf("the status stays %+v", status)
		}
	}
}

func TestFollowsAndResumes(t *testing.T) {
	exporter, s := newFakeExporter(t), newSink()
	server := httptest.NewServer(exporter)
	t.Cleanup(server.Close)
	exporter.add(1, 2)
	scraper := start(t, s, 10*time.Second, server)
	s.expect(t, "up", "1", "2")
	exporter.add(3)
	s.expect(t, "3")
	exporter.add(6, 7) // 4 and 5 are gone
	s.expect(t, "6", "7")
	status := eventually(t, scraper, 0, func(s Status) bool { return s.MissedEpochs == 2 })
	if !status.Up || status.Host != "fake" || status.LastError != "" || status.ReceivedBytes == 0 {
		t.Errorf("the status is %+v", status)
	}
	if want := time.Unix(1_700_000_007, 0); !status.LastEpoch.Equal(want) || status.Lag(want.Add(time.Second)) != time.Second {
		t.Errorf("the last epoch was %v, lag %v", status.LastEpoch, status.Lag(want.Add(time.Second)))
	}
	exporter.mu.Lock()
	defer exporter.mu.Unlock()
	if !slices.Contains(exporter.requests, "after=3&boot_id=01000000000000000000000000000000&wait=5s") {
		t.Errorf("requests were %q", exporter.requests)
	}
	if exporter.requests[0] != "after=0&wait=5s" {
		t.Errorf("the first request was %q", exporter.requests[0])
	}
}

// Another run of the exporter starts at 1 again, and that isn't a gap.
func TestRestartedExporter(t *testing.T) {
	exporter, s := newFakeExporter(t), newSink()
	server := httptest.NewServer(exporter)
	t.Cleanup(server.Close)
	exporter.add(10, 11)
	scraper := start(t, s, 10*time.Second, server)
	s.expect(t, "up", "10", "11")
	exporter.restart()
	exporter.add(1, 2)
	s.expect(t, "1", "2")
	exporter.add(4)
	s.expect(t, "4")
	eventually(t, scraper, 0, func(s Status) bool { return s.MissedEpochs == 1 })
}

// One target's death concerns no other, and it is found again.
func TestDeathAndReturn(t *testing.T) {
	first, second, s := newFakeExporter(t), newFakeExporter(t), newSink()
	dying, living := httptest.NewServer(first), httptest.NewServer(second)
	t.Cleanup(living.Close)
	address := dying.Listener.Addr().String()
	scraper := start(t, s, time.Second, dying, living)
	s.expect(t, "up", "up")
	first.add(1)
	s.expect(t, "1")
	dying.CloseClientConnections()
	dying.Close()
	s.expect(t, "down")
	status := eventually(t, scraper, 0, func(s Status) bool { return s.Errors > 1 })
	if status.Up || !strings.Contains(status.LastError, "refused") {
		t.Errorf("the status is %+v", status)
	}
	second.add(100)
	s.expect(t, "100")

	first.add(2)
	returned := httptest.NewUnstartedServer(first)
	returned.Listener.Close()
	returned.Listener = listenAgain(t, address)
	returned.Start()
	t.Cleanup(returned.Close)
	s.expect(t, "up", "2")
	if status := scraper.Statuses()[0]; status.MissedEpochs != 0 || status.LastError != "" {
		t.Errorf("after its return the status is %+v", status)
	}
}

// Whatever a target answers, it is an error of its own and the next good answer
// mends it.
func TestBadAnswers(t *testing.T) {
	zeros := compress(t, make([]byte, poll.MaxMessage+1))
	for _, test := range []struct {
		name   string
		answer func(http.ResponseWriter, *http.Request)
		want   string
	}{
		{"an error", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) }, "503 Service Unavailable"},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, "302 Found"},
		{"garbage", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "garbage") }, "invalid epoch message"},
		{"another encoding", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Encoding", "br") }, `content encoding "br"`},
		{"broken zstd", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "zstd")
			io.WriteString(w, "not zstd at all")
		}, "magic"},
		{"a bomb", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "zstd")
			w.Write(zeros)
		}, "decompressed"},
		{"a body without end", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}, poll.ErrTooLarge.Error()},
		{"nothing at all", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "no complete answer within 1s"},
		{"a connection that is cut", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(test.name, func(t *testing.T) {
			exporter, s := newFakeExporter(t), newSink()
			server := httptest.NewServer(exporter)
			t.Cleanup(server.Close)
			exporter.add(1)
			exporter.instead(func(w http.ResponseWriter, r *http.Request) bool { test.answer(w, r); return true })
			timeout := 10 * time.Second
			if strings.Contains(test.want, "within 1s") {
				timeout = time.Second
			}
			scraper := start(t, s, timeout, server)
			s.expect(t, "down")
			status := eventually(t, scraper, 0, func(s Status) bool { return s.Errors > 0 })
			if !strings.Contains(status.LastError, test.want) {
				t.Errorf("the error is %q, want %q in it", status.LastError, test.want)
			}
			exporter.instead(nil)
			s.expect(t, "up", "1")
		})
	}
}

// An epoch that the sink refuses is counted; the exporter stays up.
func TestRefusedEpoch(t *testing.T) {
	exporter, s := newFakeExporter(t), newSink()
	s.refuse = errors.New("too old")
	server := httptest.NewServer(exporter)
	t.Cleanup(server.Close)
	exporter.add(1)
	scraper := start(t, s, 10*time.Second, server)
	s.expect(t, "up", "1")
	status := eventually(t, scraper, 0, func(s Status) bool { return s.RefusedEpochs == 1 })
	if !status.Up || !status.LastEpoch.IsZero() {
		t.Errorf("the status is %+v", status)
	}
}
