package api

import (
	"context"
	"encoding/json"
	"sync"
	"time"
)

// hubs are the computations that streams wait for: one for all that ask the same.
type hubs struct {
	mu    sync.Mutex
	byKey map[string]*hub
}

// hub computes the answer to one question whenever it may have changed, as long as
// anyone listens. Listeners take the latest message, when they want it.
type hub struct {
	listeners int
	cancel    context.CancelFunc

	mu      sync.Mutex
	latest  []byte
	changed chan struct{} // closed when there is a later message
}

// busy is the share of its time that a hub computes at most, as a divisor: what takes
// long is asked less often.
const busy = 4

// listen returns the hub of a question, which a first listener starts. leave has to be
// called.
func (a *API) listen(q streamQuery) (h *hub, leave func()) {
	a.hubs.mu.Lock()
	defer a.hubs.mu.Unlock()
	if a.hubs.byKey == nil {
		a.hubs.byKey = make(map[string]*hub)
	}
	h = a.hubs.byKey[q.key]
	if h == nil {
		ctx, cancel := context.WithCancel(context.Background())
		h = &hub{cancel: cancel, changed: make(chan struct{})}
		a.hubs.byKey[q.key] = h
		go a.run(ctx, h, q)
	}
	h.listeners++
	return h, func() { a.leave(q.key, h) }
}

func (a *API) leave(key string, h *hub) {
	a.hubs.mu.Lock()
	defer a.hubs.mu.Unlock()
	if h.listeners--; h.listeners == 0 {
		h.cancel()
		delete(a.hubs.byKey, key)
	}
}

// run computes until nobody listens or the server ends.
func (a *API) run(ctx context.Context, h *hub, q streamQuery) {
	changes, stop := a.store.Watch()
	defer stop()
	for {
		if a.turns.take(ctx) != nil {
			return
		}
		began := time.Now()
		message, err := json.Marshal(q.compute())
		took := time.Since(began)
		a.turns.leave()
		if err != nil {
			a.logger.Error("can't encode a message", "error", err)
			return
		}
		h.publish(message)
		pause := max(leastInterval, busy*took)
		if !a.wait(ctx, pause, nil) || !a.wait(ctx, max(pause, idleInterval)-pause, changes) {
			return
		}
	}
}

func (h *hub) publish(message []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.latest = message
	close(h.changed)
	h.changed = make(chan struct{})
}

// next returns the latest message, and what is closed once it no longer is. There is no
// message at first.
func (h *hub) next() (latest []byte, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.latest, h.changed
}
