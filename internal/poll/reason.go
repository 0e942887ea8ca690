package poll

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

// Error is about what was answered.
type Error struct {
	Reason Reason
	Err    error
}

// Error returns what was wrong.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns what was wrong.
func (e *Error) Unwrap() error { return e.Err }

// ReasonOf classifies an error of Poll and Newer.
func ReasonOf(err error) Reason {
	var answer *Error
	var certificate *tls.CertificateVerificationError
	var remote *net.OpError
	switch {
	case errors.As(err, &answer):
		return answer.Reason
	case errors.Is(err, epoch.ErrMessage):
		return Invalid
	case errors.Is(err, errTimeout), errors.Is(err, context.DeadlineExceeded):
		return Timeout
	case errors.As(err, &certificate), errors.As(err, &remote) && remote.Op == "remote error": // an alert of TLS
		return Certificate
	}
	return Unreachable
}

// Useless tells whether there was an answer that won't be better soon.
func (r Reason) Useless() bool {
	switch r {
	case Unreachable, Timeout, Busy, Sequence, StatusCode:
		return false
	}
	return true
}
