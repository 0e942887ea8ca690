package api

import (
	"context"
	"net/http"
	"time"
)

const (
	maxQuery = 4096 // characters
	// So many questions are computed at once, by requests and streams together; a
	// request waits so long for its turn. More at once would take no less time and
	// the memory of all.
	maxComputing = 2
	queueTimeout = 5 * time.Second
	retryAfter   = 1 // seconds
	// A client has so long to read an answer.
	readTimeout = time.Minute
)

// turns lets a few compute at once.
type turns chan struct{}

func newTurns(n int) turns { return make(turns, n) }

// take waits for a turn, until the context ends.
func (t turns) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	default:
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turns) leave() { <-t }

// inTurn computes an answer when it is its turn; not if the client has gone by then.
func (a *API) inTurn(ctx context.Context, compute func() (any, error)) (any, error) {
	waiting, cancel := context.WithTimeout(ctx, a.configuration.queueTimeout())
	defer cancel()
	if err := a.turns.take(waiting); err != nil {
		return nil, &requestError{status: http.StatusServiceUnavailable, retry: retryAfter, message: "too many questions are being answered; allowed: again later"}
	}
	defer a.turns.leave()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return compute()
}

func (c *Configuration) queueTimeout() time.Duration {
	if c.QueueTimeout > 0 {
		return c.QueueTimeout
	}
	return queueTimeout
}
