// Package api is what the exporter serves besides metrics: the epochs for
// aggregators, answers for people and scripts, and its state.
package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/traffic-monitor-agent/tma/exporter/window"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// History is where epochs come from. Safe for concurrent use.
type History interface {
	// After returns the epochs behind a sequence, within both bounds.
	After(sequence uint64, maxEpochs, maxBytes int) window.Batch
	// Wait returns when there is one, or the context's error.
	Wait(ctx context.Context, sequence uint64) error
}

// Config is what the answers are made of. All functions are safe for concurrent use.
type Config struct {
	Version string
	// Boot tells aggregators which run of the exporter a sequence belongs to.
	Boot          [16]byte
	History       History
	Top           func() *window.Top // may return nil, for nothing yet
	Cardinality   func() []window.Estimate
	EstimateFlows func(context.Context, []flow.Key, time.Duration) (window.FlowEstimates, error)
	CPU           *CPU
}

// server holds what the handlers share.
type server struct {
	config Config
	zstd   *zstd.Encoder // EncodeAll alone, which is safe for concurrent use
}

// New returns the handler of /v1/ and /-/.
func New(c Config) (http.Handler, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	s := &server{config: c, zstd: encoder}
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/epochs", endpoint(maxEpochsRequests, s.epochs))
	mux.HandleFunc("/v1/snapshot", endpoint(maxSnapshotRequests, s.snapshot))
	mux.HandleFunc("/v1/flow", endpoint(maxFlowRequests, s.flow))
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
	setDeadline(w)
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) // the client is gone if this fails
}

// writeJSON answers for people, so with a line a field.
func writeJSON(w http.ResponseWriter, body any) {
	setDeadline(w)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.Encode(body) // the client is gone if this fails
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
	writeError(w, http.StatusNotFound, errorBody{Error: "no such path; there is: /v1/epochs, /v1/flow, /v1/snapshot"})
}

func healthy(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("Healthy.\n")) }

// ready says yes from the first epoch on.
func (s *server) ready(w http.ResponseWriter, _ *http.Request) {
	if s.config.History.After(0, 0, 0).Newest == 0 {
		http.Error(w, "Not ready: no epoch yet.", http.StatusServiceUnavailable)
		return
	}
	w.Write([]byte("Ready.\n"))
}
