package api

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

// How long a request waits for an epoch.
const (
	defaultWait = 5 * time.Second
	maxWait     = 30 * time.Second
)

// epochsQuery is the query of /v1/epochs.
type epochsQuery struct {
	after uint64
	boot  *[16]byte // nil if not given
	wait  time.Duration
}

// queryError says which parameter is wrong.
type queryError struct{ parameter, what string }

// Error returns what is wrong and what is allowed.
func (e *queryError) Error() string { return e.what }

// maxQuery is the longest query that is looked at; all parameters together are
// far shorter.
const maxQuery = 512

// parseEpochsQuery takes the known parameters, each once, and nothing else.
func parseEpochsQuery(raw string) (epochsQuery, *queryError) {
	q := epochsQuery{wait: defaultWait}
	if len(raw) > maxQuery {
		return q, &queryError{"", fmt.Sprintf("the query is too long; allowed: %d characters", maxQuery)}
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, &queryError{"", "the query isn't URL-encoded; allowed: after, boot_id, wait"}
	}
	for name, given := range values {
		if err := q.set(name, given); err != nil {
			return q, err
		}
	}
	return q, nil
}

func (q *epochsQuery) set(name string, given []string) *queryError {
	parse, ok := map[string]func(string) string{
		"after": q.setAfter, "boot_id": q.setBoot, "wait": q.setWait,
	}[name]
	if !ok {
		return &queryError{name, "unknown parameter; allowed: after, boot_id, wait"}
	}
	if len(given) != 1 {
		return &queryError{name, "the parameter is there more than once; allowed: once"}
	}
	if wrong := parse(given[0]); wrong != "" {
		return &queryError{name, wrong}
	}
	return nil
}

func (q *epochsQuery) setAfter(text string) string {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return "not a sequence; allowed: a whole number from 0 on"
	}
	q.after = n
	return ""
}

func (q *epochsQuery) setBoot(text string) string {
	var boot [16]byte
	if len(text) != 2*len(boot) {
		return "not a boot id; allowed: 32 hexadecimal digits"
	}
	if _, err := hex.Decode(boot[:], []byte(text)); err != nil {
		return "not a boot id; allowed: 32 hexadecimal digits"
	}
	q.boot = &boot
	return ""
}

func (q *epochsQuery) setWait(text string) string {
	var wait yamlconf.Duration
	if wait.Set(text) != nil || time.Duration(wait) > maxWait {
		return "not a time to wait; allowed: 0s to 30s"
	}
	q.wait = time.Duration(wait)
	return ""
}
