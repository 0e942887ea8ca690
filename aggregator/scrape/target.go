package scrape

import (
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/poll"
)

// Target is an exporter to scrape.
type Target struct {
	Name    string // host:port, and the path if it isn't the usual one
	URL     string // of its epochs, without a query
	Labels  map[string]string
	Timeout time.Duration // without an answer for so long it is down
	Client  *http.Client  // of the target's job; it mustn't decompress by itself
}

// Status is what is known of a target.
type Status struct {
	Target
	Host          string // as the exporter calls itself
	Up            bool
	LastEpoch     time.Time // end of the newest epoch; zero if there is none
	MissedEpochs  uint64    // gone from the exporter before they were read
	RefusedEpochs uint64    // that the sink wouldn't take
	ReceivedBytes uint64    // as on the wire, compressed
	Polls         uint64
	Errors        map[poll.Reason]uint64 // polls that failed
	LastDuration  time.Duration          // of the last poll, waiting included
	LastError     string                 // why it is down; empty while it is up
}

// Failed is how many polls failed, for whatever reason.
func (s *Status) Failed() (n uint64) {
	for _, count := range s.Errors {
		n += count
	}
	return n
}

// Lag is how old the newest data is, or 0 if there is none yet.
func (s *Status) Lag(now time.Time) time.Duration {
	if s.LastEpoch.IsZero() {
		return 0
	}
	return max(now.Sub(s.LastEpoch), 0)
}

// state is a Status with its lock. The target in it changes when its configuration
// does.
type state struct {
	mu     sync.Mutex
	status Status
}

func (s *state) update(change func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.status)
}

func (s *state) read() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := s.status
	status.Errors = maps.Clone(status.Errors)
	return status
}
