package api

import (
	"context"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/traffic-monitor-agent/tma/exporter/window"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

// Bounds of one answer; the first epoch goes out whatever its size. An epoch is at most
// 0.7 MB decompressed, and an aggregator reads 32 MiB.
const (
	maxEpochs = 32
	maxBytes  = 4 << 20
)

// epochs answers GET /v1/epochs: a protobuf Batch of the epochs behind one, as
// soon as there are any, an empty Batch if there are none in time.
func (s *server) epochs(w http.ResponseWriter, r *http.Request) {
	received := time.Now()
	q, wrong := parseEpochsQuery(r.URL.RawQuery)
	if wrong != nil {
		writeError(w, http.StatusBadRequest, errorBody{wrong.Error(), wrong.parameter})
		return
	}
	if q.boot != nil && *q.boot != s.config.Boot {
		q.after = 0 // of another run: everything is new to this client
	}
	ctx, cancel := context.WithTimeout(r.Context(), q.wait)
	defer cancel()
	// Whether it came to something or time is up, After tells.
	_ = s.config.History.Wait(ctx, q.after)
	batch := s.config.History.After(q.after, maxEpochs, maxBytes)
	s.write(w, r, &batch, received)
}

// write sends a batch, compressed if the client can read that. The messages are those
// of the History and not copied: a client that reads slowly, or not at all, holds what
// is kept anyway, and no lock.
func (s *server) write(w http.ResponseWriter, r *http.Request, batch *window.Batch, received time.Time) {
	setDeadline(w)
	header := w.Header()
	header.Set("Content-Type", "application/x-protobuf")
	header.Set("Cache-Control", "no-store")
	header.Set("Vary", "Accept-Encoding")
	parts := append([]window.Message{s.header(batch, received)}, batch.Epochs...)
	if !acceptsZstd(r.Header.Values("Accept-Encoding")) {
		s.writePlain(w, parts)
		return
	}
	size := 0
	for _, part := range parts {
		size += len(part)
	}
	header.Set("Content-Encoding", "zstd")
	header.Set("Content-Length", strconv.Itoa(size))
	for _, part := range parts {
		if _, err := w.Write(part); err != nil {
			return // the client is gone
		}
	}
}

// header returns what precedes the epochs of an answer to a request that came in at a
// time.
func (s *server) header(batch *window.Batch, received time.Time) window.Message {
	header := epoch.EncodeBatchHeader(s.config.Boot, batch.Oldest, batch.Newest)
	return s.zstd.EncodeAll(epoch.AppendBatchClock(header, received, time.Now()), nil)
}

// writePlain decompresses one part at a time.
func (s *server) writePlain(w http.ResponseWriter, parts []window.Message) {
	var plain []byte
	for _, part := range parts {
		var err error
		if plain, err = part.Decompress(plain[:0]); err != nil {
			panic(err) // it is ours; the server logs this and ends the answer
		}
		if _, err := w.Write(plain); err != nil {
			return // the client is gone
		}
	}
}

// acceptsZstd reads Accept-Encoding (RFC 9110, 12.5.3).
func acceptsZstd(values []string) bool {
	for encoding := range strings.SplitSeq(strings.Join(values, ","), ",") {
		name, weight, _ := strings.Cut(encoding, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "zstd") {
			continue
		}
		key, value, _ := strings.Cut(strings.TrimSpace(weight), "=")
		q, err := strconv.ParseFloat(value, 64)
		return key != "q" || err == nil && q > 0
	}
	return false
}

// How long a request waits for an epoch.
const (
	defaultWait = 5 * time.Second
	maxWait     = 30 * time.Second
)

// epochsQuery is the query of /v1/epochs.
type epochsQuery struct {
	after uint64
	boot  *[16]byte // nil if not given
	wait  time.Duration
}

func parseEpochsQuery(raw string) (epochsQuery, *queryError) {
	q := epochsQuery{wait: defaultWait}
	err := parseQuery(raw, []parameter{
		{name: "after", set: q.setAfter},
		{name: "boot_id", set: q.setBoot},
		{name: "wait", set: q.setWait},
	})
	return q, err
}

func (q *epochsQuery) setAfter(text string) string {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return "not a sequence; allowed: a whole number from 0 on"
	}
	q.after = n
	return ""
}

func (q *epochsQuery) setBoot(text string) string {
	var boot [16]byte
	if len(text) != 2*len(boot) {
		return "not a boot id; allowed: 32 hexadecimal digits"
	}
	if _, err := hex.Decode(boot[:], []byte(text)); err != nil {
		return "not a boot id; allowed: 32 hexadecimal digits"
	}
	q.boot = &boot
	return ""
}

func (q *epochsQuery) setWait(text string) string {
	var wait yamlconf.Duration
	if wait.Set(text) != nil || time.Duration(wait) > maxWait {
		return "not a time to wait; allowed: 0s to 30s"
	}
	q.wait = time.Duration(wait)
	return ""
}
