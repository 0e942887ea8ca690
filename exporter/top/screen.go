package top

import (
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// Only the terminal's own 16 colours, which suit its background, light or dark;
// nothing is said by colour alone. The library leaves colours away where NO_COLOR or
// the terminal asks for that.
var (
	plain   = lipgloss.NewStyle()
	bold    = lipgloss.NewStyle().Bold(true)
	faint   = lipgloss.NewStyle().Faint(true)
	reverse = lipgloss.NewStyle().Reverse(true)
	good    = lipgloss.NewStyle().Foreground(lipgloss.Green)
	bad     = lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Red)
	notable = lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Yellow)
	bars    = lipgloss.NewStyle().Foreground(lipgloss.Cyan)
)

// The lines around the rows: title, totals, distinct counts, tabs, headings; the total
// and the keys.
const (
	linesAbove = 5
	linesBelow = 2
)

// View draws the screen.
func (m *model) View() tea.View {
	lines := m.lines()
	if m.help {
		lines = m.helpLines()
	}
	lines = lines[:min(len(lines), max(m.height, 1))]
	for i := range lines {
		lines[i] = ansi.Truncate(lines[i], m.width, "…")
	}
	v := tea.NewView(strings.Join(lines, "\n"))
	v.AltScreen = true
	return v
}

// visibleRows is how many rows there is room for: at least one.
func (m *model) visibleRows() int {
	room := m.height - linesAbove - linesBelow - len(m.snap.rests)
	if len(m.snap.rows) > room {
		room-- // for the line of the others
	}
	return max(room, 1)
}

// lines draws everything but help, top to bottom, the keys on the last line.
func (m *model) lines() []string {
	lines := []string{m.title(), m.totalsLine(), m.distinctLine(), m.tabs()}
	lines = append(lines, m.tableLines()...)
	for len(lines) < m.height-1 {
		lines = append(lines, "")
	}
	lines = lines[:max(1, min(len(lines), m.height-1))]
	return append(lines, m.footer())
}

// between puts one text on the left and one on the right, which goes first where there
// isn't room for both.
func (m *model) between(left, right string, style lipgloss.Style) string {
	right = ansi.Truncate(right, m.width, "…")
	return fit(left, m.width-ansi.StringWidth(right)) + style.Render(right)
}

func (m *model) title() string {
	text, style := m.state()
	host := m.snap.host
	if host != "" {
		host += "  "
	}
	return m.between(bold.Render("tma-exporter top")+"  "+host+m.shown, " "+text, style)
}

// state says how fresh the data is, and why not fresher.
func (m *model) state() (string, lipgloss.Style) {
	old := ""
	if !m.snap.end.IsZero() {
		old = ", " + age(m.now().Sub(m.lastEnd())) + " old"
	}
	switch {
	case m.paused != nil:
		return "PAUSED" + old, notable
	case m.link.err != nil && m.link.answered.IsZero():
		return "DOWN", bad
	case m.link.err != nil:
		return "DOWN for " + age(m.now().Sub(m.link.answered)) + old, bad
	case m.link.answered.IsZero():
		return "CONNECTING", notable
	case m.snap.end.IsZero():
		return "NO EPOCH YET", notable
	}
	return "LIVE" + old, good
}

// lastEnd is the end of the newest epoch: of what is looked at if it is paused, of all
// that came in otherwise.
func (m *model) lastEnd() time.Time {
	if m.paused == nil && m.live.newest() != nil {
		return m.live.newest().End
	}
	return m.snap.end
}

func (m *model) totalsLine() string {
	t, w := m.snap.totals, m.query.window
	over := m.snap.covered[w]
	counted, lost := t.counted(), t.unaccounted()
	text := fmt.Sprintf("%s %s  %s %s", short(m.units.rate(counted[w], inBytes, over)), m.units.name(inBytes),
		short(m.units.rate(counted[w], inPackets, over)), m.units.name(inPackets))
	for _, part := range []struct {
		name string
		c    epoch.Count
	}{{"unaccounted", lost[w]}, {"remainder", t.remainder[w]}, {"folded", t.folded[w]}, {"dup", t.duplicate[w]}} {
		text += fmt.Sprintf("  %s %s", part.name, short(m.units.rate(part.c, inBytes, over)))
	}
	if m.link.missed > 0 {
		text += fmt.Sprintf("  missed %d epochs", m.link.missed)
	}
	return fit(text, m.width)
}

func (m *model) distinctLine() string {
	text := "distinct in " + windows[m.query.window].String() + ":"
	for i, of := range []string{"flows", "sources", "destinations", "ports"} {
		text += "  " + short(m.snap.distinct[i]) + " " + of
	}
	if m.filter == "" {
		return fit(text, m.width)
	}
	return m.between(text, "  filter: "+printable(m.filter, maxName), notable)
}

// tabs names the views, the present one in brackets, and the unit of the rates.
func (m *model) tabs() string {
	text := ""
	for i := range views {
		if tab := views[i].tab; views[i].name == m.query.view.name {
			text += " " + reverse.Render("["+tab+"]")
		} else {
			text += " " + tab
		}
	}
	return m.between(text, " "+m.units.name(m.query.measure), bold)
}

// tableLines draws headings, rows, rests and the total.
func (m *model) tableLines() []string {
	table := m.snap.table
	shown, rests := table.page(m.offset, m.visibleRows())
	labels := make([][]string, len(shown))
	for i := range shown {
		labels[i] = shown[i].label(m.query.names)
	}
	m.widen(labels)
	l := newLayout(m.width, &m.query, m.widest)
	lines := []string{m.headings(&l)}
	for i := range shown {
		r := shown[i]
		lines = append(lines, labelCells(&l, labels[i])+m.numbers(&l, &r.sums, r.extra, &r.own, bars))
	}
	for i := range rests {
		lines = append(lines, faint.Render(fit(rests[i].text, total(l.labels))+m.numbers(&l, &rests[i].sums, nil, &rests[i].sums, plain)))
	}
	return append(lines, bold.Render(fit("total", total(l.labels))+m.numbers(&l, &table.total, nil, &table.total, plain)))
}

// widen notes the widest labels.
func (m *model) widen(labels [][]string) {
	if m.widest == nil {
		for _, heading := range m.query.view.headings {
			m.widest = append(m.widest, len(heading)+1) // and the arrow
		}
	}
	for _, label := range labels {
		for i, text := range label {
			m.widest[i] = max(m.widest[i], ansi.StringWidth(text))
		}
	}
}

func labelCells(l *layout, label []string) string {
	text := ""
	for i, width := range l.labels {
		if i > 0 {
			text += " "
			width--
		}
		text += fitLabel(label[i], width)
	}
	return text
}

// headings draws the line above the rows. An arrow is where the order comes from: down
// if the largest, or the first name, is on top.
func (m *model) headings(l *layout) string {
	q := &m.query
	arrow := "↓"
	if q.reverse {
		arrow = "↑"
	}
	names := append([]string(nil), q.view.headings...)
	if q.order == byName {
		names[0] += arrow
	}
	text := labelCells(l, names)
	for i, width := range l.extra {
		text += fitRight(q.view.extra[i], width)
	}
	text += fitRight(strings.ToUpper(m.units.name(m.otherMeasure())), l.other)
	for i, width := range l.rates {
		heading := windows[i].String()
		if i == q.window && q.order != byName {
			heading += arrow
		}
		text += fitRight(heading, width)
	}
	return bold.Underline(true).Render(fit(text+fitRight("SHARE", l.share), m.width))
}

func (m *model) otherMeasure() measure {
	if m.query.measure == inPackets {
		return inBytes
	}
	return inPackets
}

// numbers draws the columns right of the labels. A total, whose shares are all of it,
// needs no bar.
func (m *model) numbers(l *layout, all *sums, extra []epoch.Count, own *sums, style lipgloss.Style) string {
	q, table := &m.query, m.snap.table
	text := ""
	for i, width := range l.extra {
		cell := ""
		if extra != nil {
			cell = short(m.units.rate(extra[i], q.measure, table.covered[q.window]))
		}
		text += fitRight(cell, width)
	}
	if l.other > 0 {
		text += fitRight(short(m.units.rate(all[q.window], m.otherMeasure(), table.covered[q.window])), l.other)
	}
	for i, width := range l.rates {
		text += fitRight(short(m.units.rate(all[i], q.measure, table.covered[i])), width)
	}
	part, whole := q.measure.of(own[q.window]), q.measure.of(table.total[q.window])
	text += fitRight(percent(part, whole), l.share)
	if l.bar == 0 || whole == 0 || all == &table.total {
		return text
	}
	return text + " " + style.Render(bar(float64(part)/float64(whole), l.bar-1))
}

// footer is the prompt, or what is wrong, or the keys.
func (m *model) footer() string {
	switch {
	case m.wrong != nil:
		return bad.Render(fit(oneLine(m.wrong), m.width))
	case m.prompting:
		return m.prompt.View()
	case m.link.err != nil:
		return bad.Render(fit("retrying: "+oneLine(m.link.err), m.width))
	}
	const keys = "q quit  ? help  / filter  p pause  s sort  r reverse  w window  b bits  tab view"
	return faint.Render(fit(keys, m.width))
}
