package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// longestOutage is for how long an exporter that answered before may be away.
const longestOutage = 10 * time.Second

// plain prints a table each interval until there were enough or the context ends.
// It gives up at once on an exporter that never answered.
func (t *top) plain(ctx context.Context, out io.Writer) error {
	var h history
	var printed, answered time.Time
	for n := 0; ctx.Err() == nil; {
		p := t.feed.next(ctx)
		now := t.now()
		switch {
		case ctx.Err() != nil:
			return nil
		case p.err != nil && (answered.IsZero() || now.Sub(answered) > longestOutage):
			return t.failure(p.err)
		case p.err != nil:
			continue
		}
		answered = now
		for _, e := range p.epochs {
			h.add(e)
		}
		if p.behind || h.newest() == nil || now.Sub(printed) < t.interval {
			continue
		}
		if err := t.printTable(out, &h, n > 0); err != nil {
			return err
		}
		printed = now
		if n++; n == t.count {
			return nil
		}
	}
	return nil
}

// failure says in one line that the exporter can't be read.
func (t *top) failure(err error) error {
	return fmt.Errorf("%s: %s", t.shown, oneLine(err))
}

// printTable prints two lines of comment and a table: a line of headings, one for
// each row, for what isn't in a row, and for the total. Every line has the same
// number of fields, and none has a space in it. The columns of bytes and packets are
// exact.
func (t *top) printTable(out io.Writer, h *history, again bool) error {
	s := takeSnapshot(h, t.query)
	var text strings.Builder
	if again {
		text.WriteByte('\n')
	}
	t.printComments(&text, s)
	w := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(t.plainHeadings(), "\t"))
	shown, rests := s.page(0, t.rows)
	for i := range shown {
		t.printRow(w, s, shown[i].label(false), &shown[i].sums, shown[i].extra, &shown[i].own)
	}
	for i := range rests {
		t.printRow(w, s, t.restLabel(rests[i].text), &rests[i].sums, nil, &rests[i].sums)
	}
	t.printRow(w, s, t.restLabel("total"), &s.total, nil, &s.total)
	w.Flush() // into memory
	_, err := io.WriteString(out, text.String())
	if err != nil {
		return errors.New("the table can't be written: " + oneLine(err))
	}
	return nil
}

// printComments says where, when and of how much time the table is, and what is
// known of all traffic.
func (t *top) printComments(to io.Writer, s *snapshot) {
	w := t.query.window
	fmt.Fprintf(to, "# %s host=%s by=%s window=%s covered=%s age=%s\n", s.end.UTC().Format(time.RFC3339Nano),
		field(s.host), t.query.view.name, windows[w], s.covered[w], age(t.now().Sub(s.end)))
	lost := s.totals.unaccounted()
	fmt.Fprintf(to, "# unaccounted_bytes=%d remainder_bytes=%d folded_bytes=%d duplicate_bytes=%d", int64(lost[w].Bytes),
		s.totals.remainder[w].Bytes, s.totals.folded[w].Bytes, s.totals.duplicate[w].Bytes)
	for i, of := range distinct {
		fmt.Fprintf(to, " distinct_%s=%.0f", of, s.distinct[i])
	}
	fmt.Fprintln(to)
}

func (t *top) plainHeadings() []string {
	var headings []string
	for _, heading := range t.query.view.headings {
		headings = append(headings, strings.ReplaceAll(heading, " ", "_"))
	}
	unit := strings.ToUpper(t.units.name(inBytes))
	headings = append(headings, unit, "PKT/S", "BYTES", "PACKETS")
	for _, heading := range t.query.view.extra {
		headings = append(headings, strings.ReplaceAll(heading, " ", "_")+"_BYTES")
	}
	return append(headings, "SHARE")
}

// restLabel is the label of a row that isn't of the view's kind.
func (t *top) restLabel(text string) []string {
	label := []string{"(" + strings.ReplaceAll(strings.ReplaceAll(text, ",", ""), " ", "-") + ")"}
	for len(label) < len(t.query.view.headings) {
		label = append(label, "-")
	}
	return label
}

func (t *top) printRow(to io.Writer, s *snapshot, label []string, all *sums, extra []epoch.Count, own *sums) {
	q, over := &t.query, s.covered[t.query.window]
	count := all[q.window]
	fields := make([]string, 0, 12)
	for _, text := range label {
		fields = append(fields, field(text))
	}
	for _, m := range []measure{inBytes, inPackets} {
		fields = append(fields, fmt.Sprintf("%.0f", t.units.rate(count, m, over)))
	}
	fields = append(fields, strconv.FormatUint(count.Bytes, 10), strconv.FormatUint(count.Packets, 10))
	for i := range q.view.extra {
		if extra == nil {
			fields = append(fields, "-")
			continue
		}
		fields = append(fields, strconv.FormatUint(extra[i].Bytes, 10))
	}
	fields = append(fields, percent(q.measure.of(own[q.window]), q.measure.of(s.total[q.window])))
	fmt.Fprintln(to, strings.Join(fields, "\t"))
}

// field makes a text one field of a line.
func field(text string) string {
	if text == "" {
		return "-"
	}
	return strings.ReplaceAll(printable(text, maxName), " ", "·")
}
