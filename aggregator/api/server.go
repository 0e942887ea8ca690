// Package api answers questions about the fleet's traffic over HTTP: JSON under
// /v1/, and a WebSocket that pushes what is heavy as soon as it is known.
//
// Parameters are read strictly. An answer other than 200 is a JSON object with
// the error and the parameter that it is about.
package api

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/traffic-monitor-agent/tma/aggregator/scrape"
	"github.com/traffic-monitor-agent/tma/aggregator/store"
)

// Configuration is the API's defaults and bounds.
type Configuration struct {
	Phi        float64       // where a request has none
	Retention  time.Duration // of the store
	MaxStreams int           // WebSockets at once
}

// API is the handler of everything under /v1/ and /-/.
type API struct {
	configuration Configuration
	store         *store.Store
	statuses      func() []scrape.Status
	now           func() time.Time
	logger        *slog.Logger
	memo          *memo
	mux           *http.ServeMux
	streams       atomic.Int64
	done          chan struct{}
	stop          sync.Once
}

// New returns the handler. statuses returns the state of each target, now is the
// clock.
func New(configuration Configuration, s *store.Store, statuses func() []scrape.Status, now func() time.Time, logger *slog.Logger) *API {
	a := &API{
		configuration: configuration, store: s, statuses: statuses, now: now, logger: logger,
		memo: newMemo(s, now), mux: http.NewServeMux(), done: make(chan struct{}),
	}
	a.handle("/v1/hhh", a.hhh)
	a.handle("/v1/tree", a.tree)
	a.handle("/v1/top", a.top)
	a.handle("/v1/cardinality", a.cardinality)
	a.handle("/v1/matrix", a.matrix)
	a.handle("/v1/exporters", a.exporters)
	a.handle("/-/healthy", a.healthy)
	a.handle("/-/ready", a.ready)
	a.mux.HandleFunc("/v1/stream", a.stream)
	a.handle("/", func(*parameters) (any, error) {
		return nil, &requestError{status: http.StatusNotFound, message: "there is nothing at this path; allowed: /v1/hhh, /v1/tree, /v1/top, /v1/cardinality, /v1/matrix, /v1/exporters, /v1/stream, /metrics"}
	})
	return a
}

// ServeHTTP makes API an http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// Shutdown ends the streams, which http.Server doesn't know of any more.
func (a *API) Shutdown() { a.stop.Do(func() { close(a.done) }) }

// handle serves a path by a function that returns what to encode.
func (a *API) handle(path string, answer func(*parameters) (any, error)) {
	a.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		if err := readOnly(r); err != nil {
			w.Header().Set("Allow", "GET, HEAD")
			a.refuse(w, err)
			return
		}
		body, err := answer(parse(r))
		if err != nil {
			a.refuse(w, err)
			return
		}
		a.write(w, http.StatusOK, body)
	})
}

func readOnly(r *http.Request) error {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	return &requestError{status: http.StatusMethodNotAllowed, message: "the method isn't allowed; allowed: GET, HEAD"}
}

// refuse answers with an error.
func (a *API) refuse(w http.ResponseWriter, err error) {
	refused := &requestError{status: http.StatusInternalServerError, message: err.Error()}
	errors.As(err, &refused)
	a.write(w, refused.status, struct {
		Error     string `json:"error"`
		Parameter string `json:"parameter"`
	}{refused.message, refused.parameter})
}

// write encodes before it answers, so that an answer is whole or an error.
func (a *API) write(w http.ResponseWriter, status int, body any) {
	encoded, err := json.Marshal(body)
	if err != nil {
		a.logger.Error("can't encode an answer", "error", err)
		status, encoded = http.StatusInternalServerError, []byte(`{"error":"the answer can't be encoded","parameter":""}`)
	}
	encoded = append(encoded, '\n')
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(encoded)))
	w.WriteHeader(status)
	w.Write(encoded) //nolint:errcheck // the client has gone
}
