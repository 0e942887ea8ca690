package store

import (
	"maps"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// transit remembers which host counts a flow of which neither end is monitored:
// the first that was seen with it keeps it, for as long as it goes on seeing it.
// Without memory, two hosts whose epochs put the same packets into neighbouring
// seconds would both count them.
type transit struct {
	expiry int64 // seconds
	limit  int
	// passed says that an exporter has been read beyond a second or is down: that
	// it didn't report a flow until then means that it didn't see it.
	passed func(exporter uint32, second int64) bool
	owners map[flow.Key]tenure
}

// tenure is who counts a flow: previous before the second since, owner from
// then on.
type tenure struct {
	owner, previous uint32
	since, seen     int64 // seconds of the traffic
	noted           int64 // second of the aggregator's clock
}

func newTransit(expiry int64, limit int, passed func(exporter uint32, second int64) bool) *transit {
	return &transit{expiry: expiry, limit: limit, passed: passed, owners: make(map[flow.Key]tenure)}
}

// margin is how many seconds after its owner's last sight of it a flow changes
// hands: another host may have seen the owner's last packets a second later. What
// only another host saw within the margin isn't counted, rather than twice.
const margin = 2

// observe notes that an exporter saw a flow in a second. If the flow changes
// hands by that, it does so soon after its owner's last sight of it, and observe
// returns that second: what was resolved from then on is wrong now.
func (t *transit) observe(key *flow.Key, exporter uint32, second, now int64) (since int64, changed bool) {
	held, known := t.owners[*key]
	switch {
	case !known && len(t.owners) >= t.limit:
		return 0, false
	case !known:
		held = tenure{owner: exporter, previous: exporter, since: second, seen: second}
	case held.owner == exporter:
		held.seen = max(held.seen, second)
	case second > held.seen+t.expiry && t.passed(held.owner, second):
		held = tenure{owner: exporter, previous: held.owner, since: held.seen + margin, seen: second}
		changed = true
	default:
		return 0, false
	}
	held.noted = now
	t.owners[*key] = held
	return held.since, changed
}

// owner returns who counts a flow in a second. It isn't known for flows that
// came when the memory was full.
func (t *transit) owner(key *flow.Key, second int64) (exporter uint32, known bool) {
	held, known := t.owners[*key]
	if second < held.since {
		return held.previous, known
	}
	return held.owner, known
}

// ownerOr returns who counts a flow in a second, and gives one that nobody has to
// the exporter. It isn't known if the memory is full.
func (t *transit) ownerOr(key *flow.Key, exporter uint32, second, now int64) (owner uint32, known bool) {
	if owner, known = t.owner(key, second); !known {
		t.observe(key, exporter, second, now)
		owner, known = t.owner(key, second)
	}
	return owner, known
}

// sweep forgets flows of which nothing came in since a second of the
// aggregator's clock.
func (t *transit) sweep(before int64) {
	maps.DeleteFunc(t.owners, func(_ flow.Key, held tenure) bool { return held.noted < before })
}
