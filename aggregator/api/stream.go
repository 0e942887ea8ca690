package api

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/common/model"

	"github.com/traffic-monitor-agent/tma/internal/flow"
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
)

// streamQuery is the parameters of a stream.
type streamQuery struct {
	dimension flow.Dimension
	window    time.Duration
	phi       float64
	interval  time.Duration
}

func (a *API) streamQuery(p *parameters) (streamQuery, error) {
	q := streamQuery{
		dimension: p.dimension(),
		window:    p.duration("window", streamWindow, time.Second, a.configuration.Retention),
		phi:       p.share("phi", a.configuration.Phi, leastShare),
		interval:  p.duration("interval", leastInterval, leastInterval, maxInterval),
	}
	return q, p.finish()
}

// stream serves GET /v1/stream.
func (a *API) stream(w http.ResponseWriter, r *http.Request) {
	q, err := a.streamQuery(parse(r))
	if err != nil {
		a.refuse(w, err)
		return
	}
	defer a.streams.Add(-1)
	if a.streams.Add(1) > int64(a.configuration.MaxStreams) {
		a.refuse(w, &requestError{status: http.StatusServiceUnavailable, message: "there are too many streams"})
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
	if err := a.push(conn.CloseRead(context.Background()), conn, q); err == nil {
		conn.Close(websocket.StatusGoingAway, "the aggregator is shutting down")
	}
}

// push sends messages until the client goes (an error) or the server does (nil).
// While a slow reader holds up one message, changes add up to the next: it gets
// the latest, never a backlog.
func (a *API) push(ctx context.Context, conn *websocket.Conn, q streamQuery) error {
	changes, stop := a.store.Watch()
	defer stop()
	for {
		if err := a.send(ctx, conn, q); err != nil {
			return err
		}
		if !a.wait(ctx, q.interval, nil) || !a.wait(ctx, max(q.interval, idleInterval)-q.interval, changes) {
			return ctx.Err()
		}
	}
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

// message is what a stream sends. Prefixes of one address are written without
// their length.
type message struct {
	Timestamp time.Time `json:"timestamp"` // when it was made
	period              // to is the end of the newest epoch
	Dimension string    `json:"dimension"`
	Window    string    `json:"window"`
	Phi       float64   `json:"phi"`
	totals
	HeavyHitters []streamedHitter  `json:"heavy_hitters"`
	Cardinality  map[string]uint64 `json:"cardinality"`
}

// streamedHitter has its bytes as value, too.
type streamedHitter struct {
	Value uint64 `json:"value"`
	heavyHitter
}

func (a *API) message(q streamQuery) message {
	snap := a.memo.last(q.window)
	m := message{
		Timestamp: a.now().UTC(), period: periodOf(snap.window()),
		Dimension: q.dimension.String(), Window: model.Duration(q.window).String(), Phi: q.phi,
		totals:       totalsOf(snap.window()),
		HeavyHitters: []streamedHitter{}, Cardinality: make(map[string]uint64),
	}
	for _, h := range snap.trees[q.dimension]().Heavy(q.phi) {
		hitter := streamedHitter{h.Bytes, heavyHitterOf(h)}
		hitter.Prefix = address(h.Prefix)
		m.HeavyHitters = append(m.HeavyHitters, hitter)
	}
	for of, distinct := range snap.distinct() {
		m.Cardinality[of] = uint64(math.Round(distinct))
	}
	return m
}

func (a *API) send(ctx context.Context, conn *websocket.Conn, q streamQuery) error {
	encoded, err := json.Marshal(a.message(q))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return conn.Write(ctx, websocket.MessageText, encoded)
}
