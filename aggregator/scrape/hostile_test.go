package scrape

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/poll"
)

type handler = func(http.ResponseWriter, *http.Request)

// answer is a body that says it is epochs.
func answer(encoding string, body []byte) handler {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-protobuf")
		if encoding != "" {
			w.Header().Set("Content-Encoding", encoding)
		}
		w.Write(body)
	}
}

// batchOf is a valid message of epochs, each from begin and of a length.
func batchOf(t *testing.T, begin time.Time, length time.Duration, sequences ...uint64) []byte {
	t.Helper()
	var encoded [][]byte
	for _, n := range sequences {
		b, err := epoch.Encode(&epoch.Epoch{Host: "hostile", Sequence: n, Start: begin, End: begin.Add(length)})
		if err != nil {
			t.Fatal(err)
		}
		encoded = append(encoded, b)
	}
	return epoch.EncodeBatch([16]byte{9}, 1, 1, encoded)
}

// withSketches is a message with one epoch that has so many empty sketches.
func withSketches(t *testing.T, n int) []byte {
	t.Helper()
	e, err := epoch.Encode(&epoch.Epoch{Sequence: 1, Start: time.Now(), End: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return epoch.EncodeBatch([16]byte{9}, 1, 1, [][]byte{append(e, embedded(9, n)...)})
}

// embedded are n empty messages in one field.
func embedded(field protowire.Number, n int) (b []byte) {
	for range n {
		b = protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), nil)
	}
	return b
}

// zstdFrame is a frame (RFC 8878) of blocks of zeros that repeat one byte: four bytes
// make 128 KiB, so 3 MiB on the wire are 100 GB.
func zstdFrame(windowDescriptor byte, blocks int) []byte {
	frame := binary.LittleEndian.AppendUint32(nil, 0xFD2FB528)
	frame = append(frame, 0, windowDescriptor)
	const size, repeated = 128 << 10, 1
	for range blocks {
		header := uint32(size<<3 | repeated<<1)
		frame = append(frame, byte(header), byte(header>>8), byte(header>>16), 0)
	}
	return append(frame, 1, 0, 0) // the last block, empty
}

// endless writes until the client goes.
func endless(write func(w io.Writer) error) handler {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-protobuf")
		for r.Context().Err() == nil {
			if write(w) != nil {
				return
			}
		}
	}
}

// raw takes the connection and writes without HTTP.
func raw(write func(net.Conn)) handler {
	return func(w http.ResponseWriter, _ *http.Request) {
		connection, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			write(connection)
			connection.Close()
		}
	}
}

const window8MiB = 13 << 3 // exponent 13: 2^(10+13)

// hostile is what a target may answer, why that fails, and words of its error.
type hostile struct {
	name   string
	answer handler
	reason poll.Reason
	want   string
}

func hostiles(t *testing.T) []hostile {
	now := time.Now()
	valid := batchOf(t, now, time.Second, 1)
	return []hostile{
		{"an error", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) }, poll.StatusCode, "503 Service Unavailable"},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, poll.StatusCode, "302 Found"},
		{"a page", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>hello</html>") }, poll.ContentType, `content type "text/html`},
		{"metrics", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; version=0.0.4")
			io.WriteString(w, "up 1\n")
		}, poll.ContentType, `content type "text/plain`},
		{"garbage", answer("", []byte("garbage")), poll.Invalid, "invalid epoch message"},
		{"another encoding", answer("br", valid), poll.Encoding, `content encoding "br"`},
		{"gzip unasked", answer("gzip", valid), poll.Encoding, `content encoding "gzip"`},
		{"broken zstd", answer("zstd", []byte("not zstd at all")), poll.Encoding, "magic"},
		{"half of zstd", answer("zstd", compress(t, bytes.Repeat(valid, 9))[:20]), poll.Encoding, "EOF"},
		{"100 GB of zeros", answer("zstd", zstdFrame(window8MiB, 800_000)), poll.TooLarge, "when decompressed"},
		{"a window of terabytes", answer("zstd", zstdFrame(31<<3, 1)), poll.Encoding, "window"},
		{"a body without end", endless(func(w io.Writer) error { _, err := w.Write(make([]byte, 1<<20)); return err }), poll.TooLarge, "too large"},
		{"a body that drips", endless(func(w io.Writer) error {
			_, err := w.Write([]byte{1})
			w.(http.Flusher).Flush()
			time.Sleep(10 * time.Millisecond)
			return err
		}), poll.Timeout, "no complete answer in time"},
		{"nothing at all", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, poll.Timeout, "no complete answer in time"},
		{"a connection that is cut", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, poll.Unreachable, "EOF"},
		{"half an answer", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(valid)))
			answer("", valid[:len(valid)/2])(w, nil)
			panic(http.ErrAbortHandler)
		}, poll.Unreachable, "EOF"},
		{"no HTTP", raw(func(c net.Conn) { io.WriteString(c, "SSH-2.0-OpenSSH\r\n") }), poll.Unreachable, "malformed HTTP"},
		{"headers without end", raw(func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			line := "X: " + strings.Repeat("x", 1<<16) + "\r\n"
			for {
				if _, err := io.WriteString(c, line); err != nil {
					return
				}
			}
		}), poll.Unreachable, "headers exceeded"},
		{"another version", answer("", bytes.Replace(valid, []byte{8, epoch.Version, 18}, []byte{8, 77, 18}, 1)), poll.Invalid, "version 77"},
		{"an hour's epoch", answer("", batchOf(t, now.Add(-time.Hour), time.Hour, 1)), poll.Invalid, "is 1h0m0s long"},
		{"epochs in no order", answer("", batchOf(t, now, time.Second, 3, 2)), poll.Invalid, "epoch 2 after epoch 3"},
		{"10^6 sketches", answer("", withSketches(t, 1_000_000)), poll.Invalid, "1000000 sketches"},
		{"10^7 epochs", answer("", embedded(4, 7_000_000)), poll.Invalid, "messages"},
	}
}

// Whatever a target answers is an error of its own, under its reason; it costs
// neither much memory nor another target's epochs, and the next good answer mends it.
func TestHostileTargets(t *testing.T) {
	good, s := newFakeExporter(t), newSink()
	goodServer := httptest.NewServer(good)
	t.Cleanup(goodServer.Close)
	scraper := start(t, s, 10*time.Second, goodServer)
	s.expect(t, "up")
	sequence := uint64(0)
	for _, test := range hostiles(t) {
		t.Run(test.name, func(t *testing.T) {
			exporter := newFakeExporter(t)
			server := httptest.NewServer(exporter)
			t.Cleanup(server.Close)
			t.Cleanup(server.CloseClientConnections)
			exporter.add(1_000_000)
			exporter.instead(func(w http.ResponseWriter, r *http.Request) bool { test.answer(w, r); return true })
			timeout := 20 * time.Second
			if test.reason == poll.Timeout {
				timeout = time.Second
			}
			before := allocated()
			scraper.Apply([]Target{targetOf(goodServer, 10*time.Second), targetOf(server, timeout)})
			sequence++
			good.add(sequence)
			wanted := map[event]bool{"down": true, event(fmt.Sprint(sequence)): true}
			for range 2 { // in any order
				got := <-s.events
				if !wanted[got] {
					t.Fatalf("got %q, want %v", got, wanted)
				}
				delete(wanted, got)
			}
			status := eventually(t, scraper, 1, func(s Status) bool { return s.Errors[test.reason] > 0 || s.Failed() > 0 })
			if len(status.Errors) != 1 || status.Errors[test.reason] == 0 || !strings.Contains(status.LastError, test.want) {
				t.Errorf("errors are %v and %q, want %s and %q in it", status.Errors, status.LastError, test.reason, test.want)
			}
			if len(status.LastError) > maxError+3 {
				t.Errorf("the error has %d bytes", len(status.LastError))
			}
			// What was allocated in all, freed or not, for each poll; most of it is the
			// body as it grows, and what is decompressed.
			if each := (allocated() - before) / (status.Failed() + 1); each > 200<<20 {
				t.Errorf("%d MiB were allocated a poll", each>>20)
			}
			exporter.instead(nil)
			s.expect(t, "up", "1000000")
			scraper.Apply([]Target{targetOf(goodServer, 10*time.Second)})
			s.expect(t, "down")
		})
	}
	if status := scraper.Statuses()[0]; status.Failed() != 0 || status.MissedEpochs != 0 {
		t.Errorf("the good exporter has %+v", status)
	}
}

// allocated is how many bytes were ever allocated, by the servers of the test, too.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// Sequences that run backwards in one run of an exporter are an error, and then it is
// followed from there.
func TestSequencesRunBackwards(t *testing.T) {
	exporter, s := newFakeExporter(t), newSink()
	server := httptest.NewServer(exporter)
	t.Cleanup(server.Close)
	exporter.add(10)
	scraper := start(t, s, time.Second, server)
	s.expect(t, "up", "10")
	exporter.mu.Lock()
	exporter.epochs = nil
	exporter.mu.Unlock()
	exporter.add(3)
	s.expect(t, "down")
	status := eventually(t, scraper, 0, func(s Status) bool { return s.Failed() > 0 })
	if status.Errors[poll.Sequence] != 1 {
		t.Errorf("errors are %v, %q", status.Errors, status.LastError)
	}
	s.expect(t, "up")
	exporter.add(4)
	s.expect(t, "4")
}
