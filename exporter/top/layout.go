package top

import (
	"github.com/charmbracelet/x/ansi"
)

// Widths of columns, in cells, each with the space before it.
const (
	rateWidth  = 7
	shareWidth = 6
	leastBar   = 5
	greatest   = 41 // of a bar
	leastLabel = 12 // below which other columns give way
)

// layout is how wide the columns of a table are on a screen. A column that there is no
// room for has width 0.
type layout struct {
	labels []int // the first without a space before it
	extra  []int
	rates  [len(windows)]int
	other  int // rates of the measure that the windows don't show
	share  int
	bar    int
}

// newLayout divides a screen's width. Labels get what they need, as far as there is
// room beside rates, share and a short bar; then the others get theirs, and the bar
// what is left. On a narrow screen labels shrink first, then columns go.
func newLayout(width int, q *query, widest []int) layout {
	l := layout{share: shareWidth}
	l.rates[q.window] = rateWidth
	left := width - shareWidth - rateWidth - leastLabels(widest)
	take := func(n int) int {
		if left < n {
			return 0
		}
		left -= n
		return n
	}
	if others := take(rateWidth * (len(windows) - 1)); others > 0 {
		l.rates = [...]int{rateWidth, rateWidth, rateWidth}
	}
	for _, heading := range q.view.extra {
		l.extra = append(l.extra, take(max(len(heading)+1, rateWidth)))
	}
	l.bar = take(leastBar)
	l.labels = divide(left+leastLabels(widest), widest)
	left += leastLabels(widest) - total(l.labels)
	if l.bar > 0 {
		l.other = take(len(units.name(0, inPackets)) + 1)
		l.bar = min(l.bar+left, greatest)
	}
	return l
}

// leastLabels is what labels need in any case, with the spaces between them.
func leastLabels(widest []int) int {
	sum := 0
	for _, w := range widest {
		sum += min(w, leastLabel) + 1
	}
	return sum - 1
}

// divide gives each label what it needs, the space before it included, or less of the
// widest ones where there isn't enough.
func divide(room int, widest []int) []int {
	widths := make([]int, len(widest))
	for i, w := range widest {
		widths[i] = w + min(i, 1)
	}
	for total(widths) > max(room, len(widths)) {
		most := 0
		for i := range widths {
			if widths[i] > widths[most] {
				most = i
			}
		}
		widths[most]--
	}
	return widths
}

func total(widths []int) (sum int) {
	for _, w := range widths {
		sum += w
	}
	return sum
}

// fitLabel is fit for addresses and names: where something has to go, it is from the
// middle, since an address' beginning and end, and its port, say the most.
func fitLabel(s string, width int) string {
	n := ansi.StringWidth(s)
	if n <= width || width < 8 {
		return fit(s, width)
	}
	tail := (width - 1) / 2
	return fit(ansi.Truncate(s, width-1-tail, "")+"…"+ansi.TruncateLeft(s, n-tail, ""), width)
}
