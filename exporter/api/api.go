// Package api is what the exporter serves besides metrics: the epochs for
// aggregators, and its state.
package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/klauspost/compress/zstd"

	"github.com/traffic-monitor-agent/tma/exporter/window"
)

// History is where epochs come from. Safe for concurrent use.
type History interface {
	// After returns the epochs behind a sequence, within both bounds.
	After(sequence uint64, maxEpochs, maxBytes int) window.Batch
	// Wait returns when there is one, or the context's error.
	Wait(ctx context.Context, sequence uint64) error
}

// maxRequests is how many requests for epochs are served, or waited for, at once.
const maxRequests = 32

// server holds what the handlers share.
type server struct {
	history  History
	boot     [16]byte
	requests chan struct{} // one element for each request that is served
	zstd     *zstd.Encoder // EncodeAll alone, which is safe for concurrent use
}

// New returns the handler of /v1/ and /-/. The boot id tells aggregators which
// run of the exporter a sequence belongs to.
func New(history History, boot [16]byte) (http.Handler, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	s := &server{history: history, boot: boot, requests: make(chan struct{}, maxRequests), zstd: encoder}
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/epochs", onlyGET(s.epochs))
	mux.HandleFunc("/v1/", notFound)
	mux.HandleFunc("/-/healthy", onlyGET(healthy))
	mux.HandleFunc("/-/ready", onlyGET(s.ready))
	return mux, nil
}

// errorBody is the body of every answer that isn't a success.
type errorBody struct {
	Error     string `json:"error"`
	Parameter string `json:"parameter,omitempty"` // of the query, if it is to blame
}

func writeError(w http.ResponseWriter, status int, body errorBody) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) // the client is gone if this fails
}

func onlyGET(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			writeError(w, http.StatusMethodNotAllowed, errorBody{Error: "method not allowed; allowed: GET, HEAD"})
			return
		}
		h(w, r)
	}
}

func notFound(w http.ResponseWriter, _ *http.Request) {
	writeError(w, http.StatusNotFound, errorBody{Error: "no such path; there is: /v1/epochs"})
}

func healthy(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("Healthy.\n")) }

// ready says yes from the first epoch on.
func (s *server) ready(w http.ResponseWriter, _ *http.Request) {
	if s.history.After(0, 0, 0).Newest == 0 {
		http.Error(w, "Not ready: no epoch yet.", http.StatusServiceUnavailable)
		return
	}
	w.Write([]byte("Ready.\n"))
}
