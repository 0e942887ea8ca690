package top

import (
	"bytes"
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/traffic-monitor-agent/tma/exporter/api"
	"github.com/traffic-monitor-agent/tma/exporter/window"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// exporter is an exporter's own handler, with made epochs.
type exporter struct {
	http.Handler
	history *window.History
}

func newExporter(t *testing.T, boot byte, epochs int) *exporter {
	t.Helper()
	x := &exporter{history: window.NewHistory(window.HistoryConfig{Flows: 1000, Retention: time.Hour, MaxBytes: 64 << 20})}
	for i := range epochs {
		x.add(t, mixedEpoch(uint64(i+1)))
	}
	var err error
	if x.Handler, err = api.New(api.Config{Boot: [16]byte{boot}, History: x.history}); err != nil {
		t.Fatal(err)
	}
	return x
}

func (x *exporter) add(t *testing.T, e *epoch.Epoch) {
	t.Helper()
	if err := x.history.Add(e); err != nil {
		t.Fatal(err)
	}
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// parsed is what flags make.
func parsed(t *testing.T, flags ...string) *Configuration {
	t.Helper()
	var c Configuration
	app := kingpin.New("test", "")
	c.AddFlags(app)
	if _, err := app.Parse(flags); err != nil {
		t.Fatal(err)
	}
	return &c
}

// plainText is what flags print, and the error.
func plainText(t *testing.T, flags ...string) (string, error) {
	t.Helper()
	app, err := newTop(parsed(t, flags...))
	if err != nil {
		return "", err
	}
	end := mixedEpoch(100).End
	app.now = func() time.Time { return end.Add(250 * time.Millisecond) }
	var out bytes.Buffer
	err = app.plain(t.Context(), &out)
	return out.String(), err
}

func TestPlainTables(t *testing.T) {
	address := serve(t, newExporter(t, 1, 100))
	for i := range views {
		got, err := plainText(t, "--url="+address, "--count=1", "--by="+views[i].name, "--rows=3")
		if err != nil {
			t.Fatal(err)
		}
		compareGolden(t, "plain-"+views[i].name, got)
		checkPlain(t, got)
	}
}

// checkPlain checks that a table suits scripts: no escape codes, as many fields in every
// line, bytes that add up.
func checkPlain(t *testing.T, text string) {
	t.Helper()
	if strings.ContainsAny(text, "\x1b\r\t") {
		t.Errorf("control characters in %q", text)
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")[2:]
	headings := strings.Fields(lines[0])
	column := slices.Index(headings, "BYTES")
	nested := slices.Contains(headings, "OWN_BYTES") // rows of prefixes contain each other
	sum := uint64(0)
	for i, line := range lines[1:] {
		fields := strings.Fields(line)
		if len(fields) != len(headings) {
			t.Fatalf("%d fields for %d headings: %s", len(fields), len(headings), line)
		}
		n, err := strconv.ParseUint(fields[column], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if i == len(lines)-2 && (n != sum && !nested || fields[0] != "(total)") {
			t.Errorf("the rows have %d bytes, the last line is %s", sum, line)
		}
		sum += n
	}
}

func TestPlainFlags(t *testing.T) {
	address := serve(t, newExporter(t, 1, 100))
	got, err := plainText(t, "--url="+strings.TrimPrefix(address, "http://"), "--count=1", "--by=sources", "--sort=packets", "--units=bytes",
		"--window=2s", "--filter=net 10.0.0.0/24", "--rows=0")
	if err != nil {
		t.Fatal(err)
	}
	compareGolden(t, "plain-flags", got)
}

// A table comes with each interval; epochs come meanwhile.
func TestPlainRounds(t *testing.T) {
	x := newExporter(t, 1, 10)
	app, err := newTop(parsed(t, "--url="+serve(t, x), "--count=3", "--interval=100ms", "--rows=0", "--window=40s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for sequence := uint64(11); ctx.Err() == nil; sequence++ {
			x.history.Add(mixedEpoch(sequence))
			time.Sleep(20 * time.Millisecond)
		}
	}()
	var out bytes.Buffer
	if err := app.plain(ctx, &out); err != nil {
		t.Fatal(err)
	}
	tables := strings.Split(out.String(), "\n\n")
	if len(tables) != 3 {
		t.Fatalf("%d tables, want 3:\n%s", len(tables), out.String())
	}
	for i := range tables {
		checkPlain(t, tables[i])
		if i > 0 && strings.SplitN(tables[i], " ", 3)[1] <= strings.SplitN(tables[i-1], " ", 3)[1] {
			t.Errorf("table %d isn't newer than the one before:\n%s", i, out.String())
		}
	}
}

func TestExporterThatCantBeRead(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for _, test := range []struct{ url, want string }{
		{closed.URL, "connect: connection refused"},
		{serve(t, http.NotFoundHandler()), "the exporter answered 404 Not Found"},
		{serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("\x1b[2Jgarbage")) })), "content type"},
		{serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-protobuf")
			w.Write([]byte("\x1b[2Jgarbage"))
		})), "invalid epoch message"},
	} {
		_, err := plainText(t, "--url="+test.url, "--count=1")
		if err == nil || !strings.HasPrefix(err.Error(), test.url+": ") || !strings.Contains(err.Error(), test.want) || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("got %q, want one line with %q", err, test.want)
		}
	}
}

// An exporter that answered once may be away for a while: it is gone when that is over.
func TestOutage(t *testing.T) {
	x := newExporter(t, 1, 10)
	var requests atomic.Int32
	address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) > 1 {
			http.Error(w, "", http.StatusServiceUnavailable)
			return
		}
		x.ServeHTTP(w, r)
	}))
	app, err := newTop(parsed(t, "--url="+address))
	if err != nil {
		t.Fatal(err)
	}
	clock := start
	app.now = func() time.Time { clock = clock.Add(longestOutage / 3); return clock }
	var out bytes.Buffer
	err = app.plain(t.Context(), &out)
	if err == nil || !strings.Contains(err.Error(), "503") || requests.Load() < 3 {
		t.Errorf("got %v after %d requests", err, requests.Load())
	}
	checkPlain(t, out.String())
}

// The feed resumes behind the last epoch, and begins anew with a new run.
func TestFeed(t *testing.T) {
	var handler atomic.Value
	x := newExporter(t, 1, 100)
	handler.Store(x)
	address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.Load().(*exporter).ServeHTTP(w, r) }))
	app, err := newTop(parsed(t, "--url="+address))
	if err != nil {
		t.Fatal(err)
	}
	expect := func(first, last uint64, behind bool) {
		t.Helper()
		p := app.feed.next(t.Context())
		if p.err != nil || len(p.epochs) == 0 {
			t.Fatalf("%d epochs and %v", len(p.epochs), p.err)
		}
		got := []uint64{p.epochs[0].Sequence, p.epochs[len(p.epochs)-1].Sequence}
		if got[0] != first || got[1] != last || p.behind != behind || p.missed != 0 {
			t.Errorf("epochs %v, behind %t, missed %d; want %d to %d, behind %t", got, p.behind, p.missed, first, last, behind)
		}
	}
	// An answer has 32 epochs at most.
	expect(1, 32, true)
	expect(33, 64, true)
	expect(65, 96, true)
	expect(97, 100, false)
	x.add(t, mixedEpoch(101))
	expect(101, 101, false)
	handler.Store(newExporter(t, 2, 3))
	expect(1, 3, false)
}

func TestHTTPConfigFile(t *testing.T) {
	x := newExporter(t, 1, 10)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "reader" || password != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		x.ServeHTTP(w, r)
	}))
	defer server.Close()
	directory := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(directory, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	for _, test := range []struct{ file, want string }{
		{"basic_auth: {username: reader, password: secret}\ntls_config: {ca_file: ca.pem}\n", ""},
		{"basic_auth: {username: reader, password: wrong}\ntls_config: {ca_file: ca.pem}\n", "the exporter answered 401 Unauthorized"},
		{"basic_auth: {username: reader, password: secret}\n", "certificate"},
		{"basic_auht: {}\n", "--http.config.file: "},
		{"tls_config: {ca_file: missing.pem}\n", "missing.pem"},
	} {
		_, err := plainText(t, "--url="+server.URL, "--count=1", "--http.config.file="+write("http.yml", test.file))
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: got %v, want %q", test.file, err, test.want)
		}
	}
}

func TestWrongFlags(t *testing.T) {
	for flag, want := range map[string]string{
		"--interval=50ms":    "--interval: 50ms is out of range; allowed: 100ms to 1h0m0s",
		"--rows=-1":          "--rows: -1 is out of range; allowed: 0 to 100000",
		"--count=-1":         "--count: -1 is out of range; allowed: a number of tables, or 0 for no end",
		"--by=flow":          `--by: "flow" isn't known; allowed: flows, sources, destinations, services, source-prefixes, destination-prefixes, devices`,
		"--window=1s":        `--window: "1s" isn't known; allowed: 2s, 10s, 40s`,
		"--sort=size":        `--sort: "size" isn't known; allowed: bytes, packets, name`,
		"--units=bit":        `--units: "bit" isn't known; allowed: bits, bytes`,
		"--filter=port x":    `--filter: port "x" isn't a port; allowed: one such as 443 or 8000-8999`,
		"--url=ftp://host":   "--url: not the address of an exporter; allowed: one such as http://localhost:10017",
		"--url=http://":      "--url: not the address of an exporter; allowed: one such as http://localhost:10017",
		"--url=http://a/?b":  "--url: not the address of an exporter; allowed: one such as http://localhost:10017",
		"--url=http://a:b:c": "--url: not the address of an exporter; allowed: one such as http://localhost:10017",
	} {
		if _, err := newTop(parsed(t, flag)); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", flag, err, want)
		}
	}
}

func TestEpochsURL(t *testing.T) {
	for text, want := range map[string][2]string{
		"host:10017":                 {"http://host:10017/v1/epochs", "http://host:10017"},
		"https://host":               {"https://host/v1/epochs", "https://host"},
		"http://host/behind/a/proxy": {"http://host/behind/a/proxy/v1/epochs", "http://host/behind/a/proxy"},
		"http://u:p@[::1]:10017/":    {"http://u:p@[::1]:10017/v1/epochs", "http://u:xxxxx@[::1]:10017/"},
	} {
		address, shown, err := (&Configuration{URL: text}).epochsURL()
		if err != nil || address != want[0] || shown != want[1] {
			t.Errorf("%s: got %s, shown as %s, %v", text, address, shown, err)
		}
	}
}
