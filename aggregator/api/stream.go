package api

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/common/model"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
)

const (
	streamWindow = 10 * time.Second // by default
	// Epochs of many exporters come in one by one; messages are at least so far
	// apart, the first after a pause goes out at once.
	leastInterval = 50 * time.Millisecond
	maxInterval   = time.Minute
	// Without any epoch a message still shows the window sliding.
	idleInterval = time.Second
	// A reader that takes nothing for so long is gone.
	writeTimeout = 10 * time.Second
	// So often a client is asked whether it is there, and has writeTimeout to answer:
	// the system takes a while to fill up with messages that nobody reads.
	pingInterval = 30 * time.Second
	// Nothing is expected of clients.
	maxClientMessage = 512
)

// streamQuery is the parameters of a stream, but for how often it wants messages. key is
// equal for equal ones.
type streamQuery struct {
	key     string
	compute func() any
}

// streamed is what can be pushed, each with its message.
var streamed = []string{"hhh", "tree", "top", "cardinality"}

func (a *API) streamQuery(p *parameters) (q streamQuery, interval time.Duration, err error) {
	kind := p.choice("query", streamed...)
	interval = p.duration("interval", leastInterval, leastInterval, maxInterval)
	window := span{last: p.duration("window", streamWindow, time.Second, a.configuration.Retention)}
	switch kind {
	case "hhh":
		query := a.heavyQuery(p, question{window, a.filter(p)})
		q.compute = func() any { return a.message(query) }
	case "tree":
		query := a.treeQuery(p, question{window, a.filter(p)})
		q.compute = func() any { return timed[tree]{a.stamp(kind), a.treeOf(query)} }
	case "top":
		query := a.topQuery(p, question{window, a.filter(p)})
		q.compute = func() any { return timed[top]{a.stamp(kind), a.topOf(p, query)} }
	case "cardinality":
		q.compute = func() any { return timed[cardinalities]{a.stamp(kind), a.cardinalityOf(question{span: window})} }
	}
	names := slices.DeleteFunc(p.names(), func(name string) bool { return name == "interval" })
	q.key = fmt.Sprint(kind, "?", p.key(names))
	return q, interval, p.finish()
}

// stamp is the beginning of a message.
type stamp struct {
	Timestamp time.Time `json:"timestamp"` // when it was made
	Query     string    `json:"query"`
}

func (a *API) stamp(query string) stamp { return stamp{a.now().UTC(), query} }

// timed is a message with the answer to a request.
type timed[A any] struct {
	stamp
	Answer A `json:"answer"`
}

// message is what a stream of heavy hitters sends. Prefixes of one address are written
// without their length.
type message struct {
	stamp
	period
	Dimension string  `json:"dimension"`
	Window    string  `json:"window"`
	Phi       float64 `json:"phi"`
	totals
	HeavyHitters []streamedHitter  `json:"heavy_hitters"`
	Cardinality  map[string]uint64 `json:"cardinality"` // of all traffic, whatever is filtered
}

// streamedHitter has its bytes as value, too.
type streamedHitter struct {
	Value uint64 `json:"value"`
	heavyHitter
}

func (a *API) message(q heavyQuery) message {
	snap := a.snapshot(q.question)
	window := snap.window()
	m := message{
		stamp: a.stamp("hhh"), period: periodOf(window),
		Dimension: q.dimension, Window: model.Duration(q.last).String(), Phi: q.phi,
		totals: totalsOf(window), HeavyHitters: []streamedHitter{}, Cardinality: make(map[string]uint64),
	}
	for _, h := range q.find(snap) {
		if h.Bytes >= hhh.Threshold(q.least, window.Counted.Bytes) {
			h.Prefix, h.Source, h.Destination = bare(h.Prefix), bare(h.Source), bare(h.Destination)
			m.HeavyHitters = append(m.HeavyHitters, streamedHitter{h.Bytes, h})
		}
	}
	for of, distinct := range a.memo.last(q.last, 0, filter{}).distinct() {
		m.Cardinality[of] = uint64(math.Round(distinct))
	}
	return m
}

// bare returns an address without the length of its prefix.
func bare(prefix string) string {
	length := "/32"
	if strings.Contains(prefix, ":") {
		length = "/128"
	}
	return strings.TrimSuffix(prefix, length)
}

// stream serves GET /v1/stream. Browsers may open one from pages of the aggregator's own
// origin only.
func (a *API) stream(w http.ResponseWriter, r *http.Request) {
	q, interval, err := a.streamQuery(parse(r))
	if err != nil {
		a.refuse(w, err)
		return
	}
	defer a.streams.Add(-1)
	if a.streams.Add(1) > int64(a.configuration.MaxStreams) {
		a.refuse(w, &requestError{status: http.StatusServiceUnavailable, retry: retryAfter, message: "there are too many streams"})
		return
	}
	if r.Header.Get("Upgrade") == "" {
		w.Header().Set("Upgrade", "websocket")
		a.refuse(w, &requestError{status: http.StatusUpgradeRequired, message: "this is a WebSocket; allowed: a request with Upgrade: websocket"})
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxClientMessage)
	if err := a.push(conn.CloseRead(context.Background()), conn, q, interval); err == nil {
		conn.Close(websocket.StatusGoingAway, "the aggregator is shutting down")
	}
}

// push sends messages until the client goes (an error) or the server does (nil).
// While a slow reader holds up one message, changes add up to the next: it gets
// the latest, never a backlog.
func (a *API) push(ctx context.Context, conn *websocket.Conn, q streamQuery, interval time.Duration) error {
	h, leave := a.listen(q)
	defer leave()
	pinged := time.Now()
	for {
		message, changed := h.next()
		if message != nil {
			if err := send(ctx, conn, message); err != nil {
				return err
			}
			if !a.wait(ctx, interval, nil) {
				return ctx.Err()
			}
		}
		if time.Since(pinged) > pingInterval {
			if err := ping(ctx, conn); err != nil {
				return err
			}
			pinged = time.Now()
		}
		if !a.wait(ctx, maxInterval, changed) {
			return ctx.Err()
		}
	}
}

func send(ctx context.Context, conn *websocket.Conn, message []byte) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return conn.Write(ctx, websocket.MessageText, message)
}

func ping(ctx context.Context, conn *websocket.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return conn.Ping(ctx)
}

// wait waits for a time or a change. It returns false if the stream ends.
func (a *API) wait(ctx context.Context, d time.Duration, changes <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-a.done:
		return false
	case <-changes:
	case <-timer.C:
	}
	return true
}
