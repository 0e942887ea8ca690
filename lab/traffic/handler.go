package traffic

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// maxBody bounds the body of a request, in bytes.
const maxBody = 1 << 10

// Handler serves the controller: GET /v1/mode returns its State as JSON, PUT
// /v1/mode with {"mode":"normal"} or {"mode":"heavy"} changes it and returns
// the new one. Errors are JSON too, {"error","parameter"}.
func (c *Controller) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/mode", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, c.State())
	})
	mux.HandleFunc("PUT /v1/mode", c.putMode)
	return mux
}

// failure is the answer to a request that failed.
type failure struct {
	Error     string `json:"error"`
	Parameter string `json:"parameter,omitempty"`
}

func (c *Controller) putMode(w http.ResponseWriter, r *http.Request) {
	mode, err := readMode(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		answer(w, http.StatusBadRequest, failure{err.Error(), "mode"})
		return
	}
	switch err := c.SetMode(mode); {
	case errors.Is(err, ErrNotRunning):
		answer(w, http.StatusServiceUnavailable, failure{Error: err.Error()})
	case err != nil:
		answer(w, http.StatusInternalServerError, failure{Error: err.Error()})
	default:
		answer(w, http.StatusOK, c.State())
	}
}

func readMode(body io.Reader) (Mode, error) {
	var request struct {
		Mode Mode `json:"mode"`
	}
	decoder := json.NewDecoder(body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil {
		return "", fmt.Errorf(`the body must be {"mode":"normal"} or {"mode":"heavy"}: %w`, err)
	}
	if request.Mode != Normal && request.Mode != Heavy {
		return "", fmt.Errorf("%q isn't a mode; allowed: normal, heavy", request.Mode)
	}
	return request.Mode, nil
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The only error is that the client has gone.
	_ = json.NewEncoder(w).Encode(body)
}
