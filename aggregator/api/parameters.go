package api

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// requestError is an answer other than 200.
type requestError struct {
	status    int
	parameter string // empty if it is about no parameter
	message   string
	retry     int // after so many seconds it may be another answer; 0 if not
}

func (e *requestError) Error() string { return e.message }

// parameters reads a request's query strictly: whatever isn't asked for by the
// handler is refused, and so is a parameter that is there twice. The first error
// is kept, until finish returns it.
type parameters struct {
	values url.Values
	known  map[string]bool
	err    *requestError
}

func parse(r *http.Request) *parameters {
	p := &parameters{known: make(map[string]bool)}
	if len(r.URL.RawQuery) > maxQuery {
		p.refuse("", "the query has %d characters; allowed: %d", len(r.URL.RawQuery), maxQuery)
		return p
	}
	var err error
	p.values, err = url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		p.refuse("", "the query isn't URL-encoded: %v", err)
	}
	return p
}

func (p *parameters) refuse(name, format string, arguments ...any) {
	if p.err == nil {
		p.err = &requestError{status: http.StatusBadRequest, parameter: name, message: fmt.Sprintf(format, arguments...)}
	}
}

// get returns a parameter's value, and whether there is one.
func (p *parameters) get(name string) (value string, given bool) {
	p.known[name] = true
	switch values := p.values[name]; len(values) {
	case 0:
		return "", false
	case 1:
		return values[0], true
	default:
		p.refuse(name, "%s is there %d times; allowed: once", name, len(values))
		return "", false
	}
}

// names are those of all parameters that are asked for.
func (p *parameters) names() []string { return slices.Sorted(maps.Keys(p.known)) }

// finish returns the first error, which may be a parameter that nobody asked for.
func (p *parameters) finish() error {
	for _, name := range slices.Sorted(maps.Keys(p.values)) {
		if !p.known[name] {
			allowed := strings.Join(p.names(), ", ")
			p.refuse(name, "%q isn't a parameter of this request; allowed: %s", name, allowed)
		}
	}
	if p.err == nil {
		return nil // of no type
	}
	return p.err
}

// dimension reads dimension=, by default source.
func (p *parameters) dimension() flow.Dimension {
	value, given := p.get("dimension")
	if !given {
		return flow.Source
	}
	d, err := flow.ParseDimension(value)
	if err != nil {
		p.refuse("dimension", "%v", err)
	}
	return d
}

// choice reads one of some words, by default the first.
func (p *parameters) choice(name string, allowed ...string) string {
	value, given := p.get(name)
	if !given {
		return allowed[0]
	}
	if !slices.Contains(allowed, value) {
		p.refuse(name, "%q isn't a value of %s; allowed: %s", value, name, strings.Join(allowed, ", "))
	}
	return value
}

// share reads a number from least to 1.
func (p *parameters) share(name string, or, least float64) float64 {
	value, given := p.get(name)
	if !given {
		return or
	}
	share, err := strconv.ParseFloat(value, 64)
	if err != nil || !(share >= least && share <= 1) { // NaN is neither
		p.refuse(name, "%q isn't a share; allowed: a number from %v to 1", value, least)
	}
	return share
}

// count reads a whole number from 1 to greatest.
func (p *parameters) count(name string, or, greatest int) int { return p.number(name, or, 1, greatest) }

// number reads a whole number from least to greatest.
func (p *parameters) number(name string, or, least, greatest int) int {
	value, given := p.get(name)
	if !given {
		return or
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < least || n > greatest {
		p.refuse(name, "%q isn't a number of entries; allowed: %d to %d", value, least, greatest)
	}
	return n
}

// duration reads a duration between two others.
func (p *parameters) duration(name string, or, least, greatest time.Duration) time.Duration {
	value, given := p.get(name)
	if !given {
		return or
	}
	d, err := model.ParseDuration(value)
	if err != nil || time.Duration(d) < least || time.Duration(d) > greatest {
		p.refuse(name, "%q isn't a duration in range; allowed: %s to %s, such as 10s or 5m",
			value, model.Duration(least), model.Duration(greatest))
	}
	return time.Duration(d)
}

// span is the time that a request is about: the last so much, or from and to.
type span struct {
	last     time.Duration // 0 if from and to are given
	from, to time.Time
}

// span reads window=, or from= and to=.
func (p *parameters) span(or, retention time.Duration) span {
	from, hasFrom := p.instant("from")
	to, hasTo := p.instant("to")
	last := p.duration("window", or, time.Second, retention)
	_, hasWindow := p.get("window")
	switch {
	case !hasFrom && !hasTo:
		return span{last: last}
	case hasWindow:
		p.refuse("window", "window is given along with from and to; allowed: one or the other")
	case !hasFrom:
		p.refuse("from", "to is given without from; allowed: both or none")
	case !hasTo:
		p.refuse("to", "from is given without to; allowed: both or none")
	case !from.Before(to):
		p.refuse("to", "to isn't after from; allowed: a later time")
	}
	return span{from: from, to: to}
}

// instant reads a point in time.
func (p *parameters) instant(name string) (time.Time, bool) {
	value, given := p.get(name)
	if !given {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339, value)
	if err != nil {
		p.refuse(name, "%q isn't a time; allowed: RFC 3339 such as 2026-01-02T15:04:05Z", value)
	}
	return t, true
}
