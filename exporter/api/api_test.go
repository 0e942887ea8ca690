package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/traffic-monitor-agent/tma/exporter/api"
	"github.com/traffic-monitor-agent/tma/exporter/window"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

var boot = [16]byte{1, 2, 3, 4}

// history is a window.History that tells when somebody waits.
type history struct {
	*window.History
	waiting chan uint64 // the sequence behind which
}

func (h *history) Wait(ctx context.Context, after uint64) error {
	h.waiting <- after
	return h.History.Wait(ctx, after)
}

func (h *history) add(t *testing.T, sequence uint64) {
	t.Helper()
	end := time.Unix(int64(sequence), 0)
	e := &epoch.Epoch{Host: "host-a", Sequence: sequence, Start: end.Add(-time.Second), End: end}
	for i := range 30 {
		e.Devices = append(e.Devices, epoch.Device{Name: fmt.Sprintf("veth%d", i)})
	}
	if err := h.Add(e); err != nil {
		t.Fatal(err)
	}
}

func newServer(t *testing.T, epochs int) (*httptest.Server, *history) {
	t.Helper()
	h := &history{
		History: window.NewHistory(window.HistoryConfig{Flows: 10, Retention: time.Hour, MaxBytes: 1 << 20}),
		waiting: make(chan uint64, 1000),
	}
	for i := range epochs {
		h.add(t, uint64(i+1))
	}
	handler, err := api.New(api.Config{
		Boot: boot, History: h,
		Top:           func() *window.Top { return nil },
		EstimateFlows: window.NewFlowSketch(h.History, time.Hour).Estimate,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server, h
}

// get returns the answer and its body, as it was sent.
func get(t *testing.T, url string, header ...string) (*http.Response, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	// No answer is decompressed behind our back.
	response, err := (&http.Transport{DisableCompression: true}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, body
}

func decode(t *testing.T, body []byte) (*epoch.Batch, []uint64) {
	t.Helper()
	batch, err := epoch.DecodeBatch(body)
	if err != nil {
		t.Fatal(err)
	}
	var sequences []uint64
	for _, e := range batch.Epochs {
		sequences = append(sequences, e.Sequence)
	}
	return batch, sequences
}

func TestEpochs(t *testing.T) {
	server, _ := newServer(t, 3)
	ours, others := hex.EncodeToString(boot[:]), strings.Repeat("00", 16)
	for _, test := range []struct {
		query string
		want  []uint64
	}{
		{"", []uint64{1, 2, 3}},
		{"?after=0", []uint64{1, 2, 3}},
		{"?after=2", []uint64{3}},
		{"?after=2&boot_id=" + ours, []uint64{3}},
		{"?after=2&boot_id=" + strings.ToUpper(ours), []uint64{3}},
		{"?after=3&wait=0s", nil},
		{"?after=3&boot_id=" + others, []uint64{1, 2, 3}},
		{"?after=99&boot_id=" + others, []uint64{1, 2, 3}},
	} {
		t.Run(test.query, func(t *testing.T) {
			response, body := get(t, server.URL+"/v1/epochs"+test.query)
			if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "application/x-protobuf" {
				t.Fatalf("got %s, %s", response.Status, response.Header.Get("Content-Type"))
			}
			batch, got := decode(t, body)
			if !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
			if batch.BootID != boot || batch.Oldest != 1 || batch.Newest != 3 {
				t.Errorf("got boot %x, %d to %d", batch.BootID, batch.Oldest, batch.Newest)
			}
		})
	}
}

func TestEpochsAreBounded(t *testing.T) {
	server, _ := newServer(t, 200)
	_, body := get(t, server.URL+"/v1/epochs?after=10")
	batch, got := decode(t, body)
	if len(got) != 32 || got[0] != 11 || batch.Newest != 200 {
		t.Errorf("got %d epochs from %d on, newest %d; want 32 from 11 on, newest 200", len(got), got[0], batch.Newest)
	}
}

// A request waits for the epoch that isn't there yet, and only for that.
func TestEpochsWaits(t *testing.T) {
	server, h := newServer(t, 1)
	type answer struct{ sequences []uint64 }
	answers := make(chan answer)
	go func() {
		_, body := get(t, server.URL+"/v1/epochs?after=1&wait=30s")
		_, sequences := decode(t, body)
		answers <- answer{sequences}
	}()
	if after := <-h.waiting; after != 1 {
		t.Errorf("waits behind %d, want 1", after)
	}
	select {
	case <-answers:
		t.Error("answered before there was an epoch")
	default:
	}
	h.add(t, 2)
	if got := <-answers; !slices.Equal(got.sequences, []uint64{2}) {
		t.Errorf("got %v, want 2", got.sequences)
	}
}

// withoutClock returns an answer without the times that are others in each.
func withoutClock(t *testing.T, body []byte) (without []byte) {
	t.Helper()
	clocks := 0
	for len(body) > 0 {
		field, _, n := protowire.ConsumeField(body)
		if n < 0 {
			t.Fatal("not a message")
		}
		if field == 5 || field == 6 {
			clocks++
		} else {
			without = append(without, body[:n]...)
		}
		body = body[n:]
	}
	if clocks != 2 {
		t.Fatalf("%d times in an answer, want 2", clocks)
	}
	return without
}

// An answer says when its request came in and when it went out.
func TestEpochsTellTheTime(t *testing.T) {
	server, _ := newServer(t, 1)
	before := time.Now()
	_, body := get(t, server.URL+"/v1/epochs?after=1&wait=200ms")
	after := time.Now()
	batch, _ := decode(t, body)
	x := batch.Exchange
	if x.Received.Before(before.Round(0)) || x.Sent.After(after.Round(0)) || x.Sent.Sub(x.Received) < 200*time.Millisecond {
		t.Errorf("asked %v, received %v, sent %v, answered %v", before, x.Received, x.Sent, after)
	}
}

func TestCompression(t *testing.T) {
	server, _ := newServer(t, 20)
	_, plain := get(t, server.URL+"/v1/epochs")
	for _, test := range []struct {
		accept string
		want   string
	}{
		{"", ""}, {"gzip", ""}, {"zstd", "zstd"}, {"gzip, ZSTD", "zstd"}, {"gzip;q=1, zstd;q=0.5", "zstd"},
		{"zstd;q=0", ""}, {"zstd; q=0.000", ""}, {"zstd;q=x", ""}, {"zstandard", ""}, {"*", ""},
	} {
		t.Run(test.accept, func(t *testing.T) {
			response, body := get(t, server.URL+"/v1/epochs", "Accept-Encoding", test.accept)
			if got := response.Header.Get("Content-Encoding"); got != test.want {
				t.Fatalf("Content-Encoding %q, want %q", got, test.want)
			}
			if response.Header.Get("Vary") != "Accept-Encoding" {
				t.Error("no Vary")
			}
			if test.want == "zstd" {
				if len(body) >= len(plain) {
					t.Errorf("%d bytes compressed, %d plain", len(body), len(plain))
				}
				// As a stream, as aggregators do: there are many frames in it.
				reader, err := zstd.NewReader(bytes.NewReader(body), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
				if err != nil {
					t.Fatal(err)
				}
				defer reader.Close()
				if body, err = io.ReadAll(reader); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(withoutClock(t, body), withoutClock(t, plain)) {
				t.Error("not the message that goes out uncompressed")
			}
		})
	}
}

const (
	notEncoded = "not URL-encoded; allowed: name=value, parameters separated by &, other characters as %XX"
	badAddress = "not an address; allowed: IPv4 or IPv6 without a zone"
	badPort    = "not a port; allowed: a number from 0 to 65535, for ICMP the type as source_port and the code as destination_port"
	badWindow  = "not a window; allowed: a duration such as 15s, up to 1h"
	noPort     = "the parameter is missing; only protocols without ports can do without"
	aFlow      = "source=10.0.0.1&destination=10.0.0.2&protocol=tcp&source_port=1&destination_port=2"
)

func TestBadParameters(t *testing.T) {
	server, h := newServer(t, 1)
	for _, test := range []struct{ query, parameter, want string }{
		{"epochs?after=x", "after", "not a sequence; allowed: a whole number from 0 on"},
		{"epochs?after=-1", "after", "not a sequence; allowed: a whole number from 0 on"},
		{"epochs?after=", "after", "not a sequence; allowed: a whole number from 0 on"},
		{"epochs?after", "after", "not a sequence; allowed: a whole number from 0 on"},
		{"epochs?after=18446744073709551616", "after", "not a sequence; allowed: a whole number from 0 on"},
		{"epochs?after=1&after=1", "after", "the parameter is there more than once; allowed: once"},
		{"epochs?wait=0s&after=1&wait=0s", "wait", "the parameter is there more than once; allowed: once"},
		{"epochs?boot_id=00", "boot_id", "not a boot id; allowed: 32 hexadecimal digits"},
		{"epochs?boot_id=" + strings.Repeat("g", 32), "boot_id", "not a boot id; allowed: 32 hexadecimal digits"},
		{"epochs?wait=31s", "wait", "not a time to wait; allowed: 0s to 30s"},
		{"epochs?wait=-1s", "wait", "not a time to wait; allowed: 0s to 30s"},
		{"epochs?wait=5", "wait", "not a time to wait; allowed: 0s to 30s"},
		{"epochs?From=1", "From", "unknown parameter; allowed: after, boot_id, wait"},
		{"epochs?=1", "", "unknown parameter; allowed: after, boot_id, wait"},
		{"epochs?after=%zz", "after", notEncoded},
		{"epochs?after=1%", "after", notEncoded},
		{"epochs?wait=0s&af%2", "af%2", notEncoded},
		{"epochs?after=1;wait=0s", "after", notEncoded},
		{"epochs?after=" + strings.Repeat("0", 129), "after", "the value is too long; allowed: 128 characters"},
		{"epochs?wait=0s&after=" + strings.Repeat("0", 600), "after", "the query is too long; allowed: 512 characters"},
		{"epochs?" + strings.Repeat("a", 600), strings.Repeat("a", 64), "the query is too long; allowed: 512 characters"},
		{"snapshot?window=1m", "window", "unknown parameter; allowed: none"},
		{"snapshot?window=%", "window", notEncoded},
		{"flow", "source", "the parameter is missing"},
		{"flow?source=10.0.0.1", "destination", "the parameter is missing"},
		{"flow?src=10.0.0.1&dst=10.0.0.2", "protocol", "the parameter is missing"},
		{"flow?src=10.0.0.1&dst=10.0.0.2&protocol=tcp&source_port=1", "destination_port", noPort},
		{"flow?src=10.0.0.1&dst=10.0.0.2&protocol=icmp", "source_port", noPort},
		{"flow?src=10.0.0.1&" + aFlow, "source", "the parameter is there as src, too; allowed: one of both"},
		{"flow?dst=10.0.0.2&dst=10.0.0.2&src=10.0.0.1", "dst", "the parameter is there more than once; allowed: once"},
		{"flow?src=10.0.0&dst=10.0.0.2", "src", badAddress},
		{"flow?source=&dst=10.0.0.2", "source", badAddress},
		{"flow?src=fe80::1%25eth0&dst=10.0.0.2", "src", badAddress},
		{"flow?src=10.0.0.1&destination=host", "destination", badAddress},
		{"flow?src=10.0.0.1&dst=10.0.0.2&protocol=256", "protocol", "not a protocol; allowed: a name such as tcp, udp, icmp, or a number from 0 to 255"},
		{"flow?src=10.0.0.1&dst=10.0.0.2&protocol=tcp&source_port=65536", "source_port", badPort},
		{"flow?src=10.0.0.1&dst=10.0.0.2&protocol=tcp&source_port=1&destination_port=", "destination_port", badPort},
		{"flow?" + aFlow + "&window=0s", "window", badWindow},
		{"flow?" + aFlow + "&window=2h", "window", badWindow},
		{"flow?" + aFlow + "&window=1", "window", badWindow},
	} {
		t.Run(test.query, func(t *testing.T) {
			response, body := get(t, server.URL+"/v1/"+test.query)
			wantJSONError(t, response, body, http.StatusBadRequest, test.parameter, test.want)
		})
	}
	if len(h.waiting) != 0 {
		t.Error("a bad request waited for epochs")
	}
}

// A request with a body is refused, and its body isn't read: a client that sends it
// slowly keeps no place.
func TestBodiesAreRefused(t *testing.T) {
	server, _ := newServer(t, 1)
	for _, head := range []string{"Content-Length: 1000000", "Transfer-Encoding: chunked"} {
		connection, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
		fmt.Fprintf(connection, "GET /v1/epochs HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", head)
		connection.SetDeadline(time.Now().Add(10 * time.Second))
		response, err := http.ReadResponse(bufio.NewReader(connection), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		wantJSONError(t, response, body, http.StatusBadRequest, "", "the request has a body; allowed: none")
		if !response.Close {
			t.Errorf("%s: the connection stays open for the body", head)
		}
	}
}

func wantJSONError(t *testing.T, response *http.Response, body []byte, status int, parameter, message string) {
	t.Helper()
	var got struct{ Error, Parameter string }
	if err := json.Unmarshal(body, &got); err != nil || response.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%s, %s, %s: %v", response.Status, response.Header.Get("Content-Type"), body, err)
	}
	if response.StatusCode != status || got.Parameter != parameter || got.Error != message {
		t.Errorf("got %d, %+v; want %d, %q, %q", response.StatusCode, got, status, parameter, message)
	}
}

func TestOtherPathsAndMethods(t *testing.T) {
	server, _ := newServer(t, 1)
	response, body := get(t, server.URL+"/v1/flows")
	wantJSONError(t, response, body, http.StatusNotFound, "", "no such path; there is: /v1/epochs, /v1/flow, /v1/snapshot")
	response, err := http.PostForm(server.URL+"/v1/epochs", url.Values{})
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ = io.ReadAll(response.Body)
	wantJSONError(t, response, body, http.StatusMethodNotAllowed, "", "method not allowed; allowed: GET, HEAD")
}

// As many requests as are allowed wait; one more is refused at once, and a place
// that a client gives up is free again.
func TestRequestsAreBounded(t *testing.T) {
	server, h := newServer(t, 1)
	ctx, hangUp := context.WithCancel(t.Context())
	const allowed = 32
	ended := make(chan struct{}, allowed)
	for range allowed {
		go func() {
			request, _ := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/v1/epochs?after=1&wait=30s", nil)
			if response, err := http.DefaultClient.Do(request); err == nil {
				response.Body.Close()
			}
			ended <- struct{}{}
		}()
	}
	for range allowed {
		<-h.waiting
	}
	response, body := get(t, server.URL+"/v1/epochs?wait=0s")
	wantJSONError(t, response, body, http.StatusServiceUnavailable, "", "too many requests at once; allowed: 32")
	if response.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	hangUp()
	for range allowed {
		<-ended
	}
	deadline := time.Now().Add(10 * time.Second) // the server hears of it in its own time
	for {
		response, _ := get(t, server.URL+"/v1/epochs?wait=0s")
		if response.StatusCode == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("places of clients that hung up aren't free")
		}
	}
}

func TestHealthyAndReady(t *testing.T) {
	server, h := newServer(t, 0)
	status := func(path string) string {
		response, body := get(t, server.URL+path)
		return fmt.Sprint(response.StatusCode, " ", string(body))
	}
	if got, want := status("/-/healthy"), "200 Healthy.\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := status("/-/ready"), "503 Not ready: no epoch yet.\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	h.add(t, 1)
	if got, want := status("/-/ready"), "200 Ready.\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
