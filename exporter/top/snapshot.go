package top

import (
	"fmt"
	"time"
)

// snapshot is all that is shown of a history.
type snapshot struct {
	host string
	end  time.Time
	*table
	distinct [len(distinct)]float64
}

// takeSnapshot asks a history; it may be empty.
func takeSnapshot(h *history, q query) *snapshot {
	s := &snapshot{table: tabulate(h, q), distinct: h.estimates(windows[q.window])}
	if newest := h.newest(); newest != nil {
		s.host, s.end = printable(newest.Host, maxName), newest.End
	}
	return s
}

// page returns n rows from an offset on, and what isn't in them: the other rows,
// then the table's rests.
func (t *table) page(offset, n int) (shown []*row, rests []rest) {
	offset = min(max(offset, 0), len(t.rows))
	shown = t.rows[offset:min(offset+n, len(t.rows))]
	if hidden := len(t.rows) - len(shown); hidden > 0 {
		rests = append(rests, rest{fmt.Sprintf("other, %d", hidden), t.hidden(shown)})
	}
	return shown, append(rests, t.rests...)
}

// hidden is what the rows that aren't shown have of their own: what the shown ones
// and the rests leave of the total.
func (t *table) hidden(shown []*row) sums {
	left := t.total
	for i := range t.rests {
		left.sub(&t.rests[i].sums)
	}
	for i := range shown {
		left.sub(&shown[i].own)
	}
	return left
}

// sortBy changes the order, and with it the measure if the order has one.
func (q *query) sortBy(o order) {
	q.order = o
	switch o {
	case byBytes:
		q.measure = inBytes
	case byPackets:
		q.measure = inPackets
	}
}
