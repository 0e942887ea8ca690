package scrape

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
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
	"google.golang.org/protobuf/encoding/protowire"

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
	newest := uint64(0)
	if n := len(f.epochs); n > 0 {
		newest = f.epochs[n-1].Sequence
	}
	return epoch.EncodeBatch(f.boot, 1, newest, encoded), len(encoded), f.grown
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

var fast = Configuration{Interval: time.Millisecond, Backoff: quick, UselessBackoff: quick}

var quick = poll.Backoff{Least: time.Millisecond, Greatest: 4 * time.Millisecond}

func targetOf(server *httptest.Server, timeout time.Duration) Target {
	return Target{
		Name: server.Listener.Addr().String(), URL: server.URL + "/v1/epochs", Timeout: timeout,
		Client: newClient(),
	}
}

// newClient is as those of jobs are: it decompresses nothing and follows nothing.
func newClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func start(t *testing.T, s Sink, timeout time.Duration, servers ...*httptest.Server) *Scraper {
	t.Helper()
	var targets []Target
	for _, server := range servers {
		targets = append(targets, targetOf(server, timeout))
	}
	scraper := New(fast, s, slog.New(slog.DiscardHandler))
	scraper.Apply(targets)
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
	status := eventually(t, scraper, 0, func(s Status) bool { return s.Failed() > 1 })
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

// Targets come and go while others are followed: those that stay are asked on from
// where they were, those that go are down and leave nothing.
func TestApplyChanges(t *testing.T) {
	first, second, s := newFakeExporter(t), newFakeExporter(t), newSink()
	one, two := httptest.NewServer(first), httptest.NewServer(second)
	t.Cleanup(one.Close)
	t.Cleanup(two.Close)
	first.add(1)
	second.add(99)
	scraper := start(t, s, 10*time.Second, one)
	s.expect(t, "up", "1")
	before := first.asked()

	changed := targetOf(one, 10*time.Second)
	changed.Labels = map[string]string{"zone": "a"}
	scraper.Apply([]Target{changed, targetOf(two, 10*time.Second)})
	s.expect(t, "up", "99")
	second.add(100)
	s.expect(t, "100")
	if after := first.asked(); after != before {
		t.Errorf("the one that stays was asked %d times more", after-before)
	}
	statuses := scraper.Statuses()
	if len(statuses) != 2 || statuses[0].Labels["zone"] != "a" || !statuses[0].Up || statuses[0].Polls != 1 {
		t.Errorf("the statuses are %+v", statuses)
	}

	scraper.Apply([]Target{changed})
	s.expect(t, "down") // and nobody polls the second any more when Apply returns
	second.add(101)
	first.add(2)
	s.expect(t, "2")
	if statuses := scraper.Statuses(); len(statuses) != 1 || statuses[0].MissedEpochs != 0 {
		t.Errorf("the statuses are %+v", statuses)
	}
	scraper.Apply([]Target{changed, targetOf(two, 10*time.Second)})
	s.expect(t, "up", "99", "100", "101") // as new
}

// asked is how many requests there were, once there is one that waits.
func (f *fakeExporter) asked() int {
	time.Sleep(50 * time.Millisecond)
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.requests)
}

// Answers that are no use are asked for less often than no answers.
func TestBackoff(t *testing.T) {
	s := &Scraper{configuration: DefaultConfiguration()}
	if d := s.backoff(1000, poll.Unreachable); d < 1500*time.Millisecond-1 || d > 3*time.Second {
		t.Errorf("after no answers %v", d)
	}
	if d := s.backoff(1000, poll.Invalid); d < 15*time.Second-1 || d > 30*time.Second {
		t.Errorf("after answers that are no use %v", d)
	}
}

// Sketches that the sink refuses are named; everything else of the epoch was taken.
func TestRefusedSketches(t *testing.T) {
	exporter, s := newFakeExporter(t), newSink()
	s.refuse = fmt.Errorf("%w: those of flows", epoch.ErrSketches)
	server := httptest.NewServer(exporter)
	t.Cleanup(server.Close)
	exporter.add(1)
	scraper := start(t, s, 10*time.Second, server)
	s.expect(t, "up", "1")
	status := eventually(t, scraper, 0, func(s Status) bool { return s.LastError != "" && s.LastError != "not polled yet" })
	if !status.Up || status.RefusedEpochs != 0 || status.LastEpoch.IsZero() || !strings.Contains(status.LastError, "those of flows") {
		t.Errorf("the status is %+v", status)
	}
}

// Another version, and sketches of another precision, are refused whole, by name.
func TestRefusedMessage(t *testing.T) {
	for want, field := range map[string][]byte{
		"version 9": protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 9),
		"a sketch of flows of precision 12": protowire.AppendBytes(protowire.AppendTag(nil, 9, protowire.BytesType),
			append([]byte("\x0a\x05flows"), 0x10, 12)),
	} {
		encoded, err := epoch.Encode(&epoch.Epoch{Sequence: 1})
		if err != nil {
			t.Fatal(err)
		}
		exporter, s := newFakeExporter(t), newSink()
		exporter.instead(func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/x-protobuf")
			w.Write(epoch.EncodeBatch([16]byte{1}, 1, 1, [][]byte{append(encoded, field...)}))
			return true
		})
		server := httptest.NewServer(exporter)
		t.Cleanup(server.Close)
		scraper := start(t, s, 10*time.Second, server)
		status := eventually(t, scraper, 0, func(s Status) bool { return s.Failed() > 0 })
		if status.Up || !strings.Contains(status.LastError, want) {
			t.Errorf("%q isn't about %s", status.LastError, want)
		}
	}
}
