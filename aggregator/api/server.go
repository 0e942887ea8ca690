// Package api answers questions about the fleet's traffic over HTTP: JSON or CSV under
// /v1/, and a WebSocket that pushes the answer to one as soon as it is another. It is
// described by docs/openapi.yaml.
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
	// QueueTimeout is how long a request waits for its turn; 5 s if it is 0.
	QueueTimeout time.Duration
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
	turns         turns
	hubs          hubs
	streams       atomic.Int64
	done          chan struct{}
	stop          sync.Once
}

// New returns the handler. statuses returns the state of each target, now is the
// clock.
func New(configuration Configuration, s *store.Store, statuses func() []scrape.Status, now func() time.Time, logger *slog.Logger) *API {
	a := &API{
		configuration: configuration, store: s, statuses: statuses, now: now, logger: logger,
		memo: newMemo(s, now), turns: newTurns(maxComputing), mux: http.NewServeMux(), done: make(chan struct{}),
	}
	a.handle("/v1/hhh", a.tabular(a.hhh))
	a.handle("/v1/tree", a.tabular(a.tree))
	a.handle("/v1/top", a.tabular(a.top))
	a.handle("/v1/series", a.tabular(a.series))
	a.handle("/v1/matrix", a.tabular(a.matrix))
	a.handle("/v1/cardinality", a.tabular(a.cardinality))
	a.handle("/v1/exporters", a.tabular(a.exporters))
	a.handle("/-/healthy", simple(a.healthy))
	a.handle("/-/ready", simple(a.ready))
	a.mux.HandleFunc("/v1/stream", a.stream)
	a.handle("/", simple(func(*parameters) (answer, error) {
		return nil, &requestError{status: http.StatusNotFound, message: "there is nothing at this path; allowed: /v1/hhh, /v1/tree, /v1/top, /v1/series, /v1/matrix, /v1/cardinality, /v1/exporters, /v1/stream, /metrics"}
	}))
	return a
}

// ServeHTTP makes API an http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// Shutdown ends the streams, which http.Server doesn't know of any more.
func (a *API) Shutdown() { a.stop.Do(func() { close(a.done) }) }

// answer computes what to encode. Handlers return one once they have read the
// parameters, so that a wrong request is refused at once.
type answer func() (any, error)

type handler func(*parameters) (answer, error)

// responder makes the whole response of a request.
type responder func(*http.Request) (*response, error)

// response is an answer, encoded: it is whole or an error.
type response struct {
	contentType string
	body        []byte
	next        string // where the next page is; empty if there is none
}

// handle serves a path.
func (a *API) handle(path string, respond responder) {
	a.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(readTimeout)) //nolint:errcheck // not every writer has one
		if err := readOnly(r); err != nil {
			w.Header().Set("Allow", "GET, HEAD")
			a.refuse(w, err)
			return
		}
		response, err := respond(r)
		if err != nil {
			a.refuse(w, err)
			return
		}
		if response.next != "" {
			w.Header().Set("Link", "<"+response.next+`>; rel="next"`)
		}
		write(w, http.StatusOK, response.contentType, response.body)
	})
}

// simple responds by JSON, at once.
func simple(h handler) responder {
	return func(r *http.Request) (*response, error) {
		compute, err := h(parse(r))
		if err != nil {
			return nil, err
		}
		body, err := compute()
		if err != nil {
			return nil, err
		}
		return asJSON(body)
	}
}

// tabular responds by JSON or CSV when it is the request's turn.
func (a *API) tabular(h handler) responder {
	return func(r *http.Request) (*response, error) {
		p := parse(r)
		csv := p.asCSV(r)
		compute, err := h(p)
		if err != nil {
			return nil, err
		}
		body, err := a.inTurn(r.Context(), compute)
		if err != nil {
			return nil, err
		}
		encode := asJSON
		if csv {
			encode = asTable
		}
		response, err := encode(body)
		if l, paged := body.(linker); paged && err == nil {
			response.next = l.next()
		}
		return response, err
	}
}

func asJSON(body any) (*response, error) {
	encoded, err := json.Marshal(body)
	return &response{contentType: "application/json", body: append(encoded, '\n')}, err
}

func asTable(body any) (*response, error) {
	t := body.(tabular).table()
	encoded, err := t.encode()
	return &response{contentType: "text/csv; charset=utf-8; header=present", body: encoded}, err
}

func readOnly(r *http.Request) error {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	return &requestError{status: http.StatusMethodNotAllowed, message: "the method isn't allowed; allowed: GET, HEAD"}
}

// refusal is the body of an error.
type refusal struct {
	Error     string `json:"error"`
	Parameter string `json:"parameter"`
}

// refuse answers with an error.
func (a *API) refuse(w http.ResponseWriter, err error) {
	var refused *requestError
	if !errors.As(err, &refused) {
		a.logger.Error("can't answer", "error", err)
		refused = &requestError{status: http.StatusInternalServerError, message: "the answer failed"}
	}
	if refused.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(refused.retry))
	}
	encoded, _ := json.Marshal(refusal{refused.message, refused.parameter}) // text alone
	write(w, refused.status, "application/json", append(encoded, '\n'))
}

func write(w http.ResponseWriter, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("X-Content-Type-Options", "nosniff") // names and errors of others are in it
	w.WriteHeader(status)
	w.Write(body) //nolint:errcheck // the client has gone
}
