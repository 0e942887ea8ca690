package api

import (
	"fmt"
	"net/http"
	"time"
)

// How many requests are served at once. Those for epochs wait most of the time, and
// hold nothing that isn't kept anyway; those for flows decode minutes of epochs.
const (
	maxEpochsRequests   = 32
	maxSnapshotRequests = 2
	maxFlowRequests     = 2
)

// writeTimeout is how long a client may take to read an answer, for it holds a place
// meanwhile.
const writeTimeout = 30 * time.Second

// setDeadline begins writeTimeout.
func setDeadline(w http.ResponseWriter) {
	// Not every ResponseWriter has deadlines; the server's do.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
}

// endpoint guards a handler: GET without a body, and no more at once than allowed.
// Who comes on top of them is told at once to come again.
func endpoint(atOnce int, h http.HandlerFunc) http.HandlerFunc {
	places := make(chan struct{}, atOnce)
	return onlyGET(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			w.Header().Set("Connection", "close") // so that the server doesn't read it either
			writeError(w, http.StatusBadRequest, errorBody{Error: "the request has a body; allowed: none"})
			return
		}
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
			h(w, r)
		default:
			w.Header().Set("Retry-After", "1")
			writeError(w, http.StatusServiceUnavailable, errorBody{Error: fmt.Sprintf("too many requests at once; allowed: %d", atOnce)})
		}
	})
}
