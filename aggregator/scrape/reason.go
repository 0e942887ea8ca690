package scrape

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// Reason says why a poll failed; it is a label of a metric.
type Reason string

// The reasons. From Status on, there was an answer that is no use.
const (
	Unreachable Reason = "unreachable"  // no connection, or it broke
	Timeout     Reason = "timeout"      // no complete answer in time
	Certificate Reason = "certificate"  // one side's isn't accepted
	Busy        Reason = "busy"         // too many large answers of all exporters at once
	StatusCode  Reason = "status"       // of HTTP, other than 200; redirects unless they are followed
	ContentType Reason = "content_type" // something else than epochs
	Encoding    Reason = "encoding"     // can't be decompressed
	TooLarge    Reason = "too_large"    // beyond bounds, as sent or decompressed
	Invalid     Reason = "invalid"      // refused by epoch.DecodeBatch
	Sequence    Reason = "sequence"     // ran backwards
)

// answerError is an error about what was answered.
type answerError struct {
	reason Reason
	err    error
}

func (e *answerError) Error() string { return e.err.Error() }
func (e *answerError) Unwrap() error { return e.err }

// reasonOf classifies an error of a poll.
func reasonOf(err error) Reason {
	var answer *answerError
	var certificate *tls.CertificateVerificationError
	var remote *net.OpError
	switch {
	case errors.As(err, &answer):
		return answer.reason
	case errors.Is(err, epoch.ErrMessage):
		return Invalid
	case errors.Is(err, errTimeout), errors.Is(err, context.DeadlineExceeded):
		return Timeout
	case errors.As(err, &certificate), errors.As(err, &remote) && remote.Op == "remote error": // an alert of TLS
		return Certificate
	}
	return Unreachable
}

// useless tells whether there was an answer that won't be better soon.
func (r Reason) useless() bool {
	switch r {
	case Unreachable, Timeout, Busy, Sequence, StatusCode:
		return false
	}
	return true
}
