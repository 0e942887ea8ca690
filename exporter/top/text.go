package top

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// Bounds on texts that come from the network.
const (
	maxName  = 64
	maxError = 300
)

// printable makes a text from the network fit for a terminal: what isn't a visible
// character or a space, control characters and marks that change the direction or
// the letters around them above all, becomes a dot, and the text ends, with a mark,
// at a bound.
func printable(s string, longest int) string {
	s = strings.ToValidUTF8(s, "·")
	if utf8.RuneCountInString(s) > longest {
		s = string([]rune(s)[:longest-1]) + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsMark(r) || !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, s)
}

// fit makes a text exactly so many cells wide. What is cut off is marked.
func fit(s string, width int) string {
	if width <= 0 {
		return ""
	}
	s = ansi.Truncate(s, width, "…")
	return s + strings.Repeat(" ", width-ansi.StringWidth(s))
}

// fitRight is fit, with the text on the right.
func fitRight(s string, width int) string {
	if width <= 0 {
		return ""
	}
	s = ansi.Truncate(s, width, "…")
	return strings.Repeat(" ", width-ansi.StringWidth(s)) + s
}

// short writes a number that isn't negative with a decimal prefix (SI), in at most
// five characters: 0, 7, 999, 1.00k, 12.3k, 123k.
func short(v float64) string {
	if v < 999.5 {
		return fmt.Sprintf("%.0f", v)
	}
	const prefixes = "kMGTPEZY"
	i := -1
	for v >= 999.5 && i < len(prefixes)-1 {
		v /= 1000
		i++
	}
	switch {
	case v < 9.995:
		return fmt.Sprintf("%.2f%c", v, prefixes[i])
	case v < 99.95:
		return fmt.Sprintf("%.1f%c", v, prefixes[i])
	}
	return fmt.Sprintf("%.0f%c", v, prefixes[i])
}

// units are those of bytes; packets have no other.
type units uint8

const (
	bits units = iota
	octets
)

// unitNames are the values of --units.
var unitNames = []string{"bits", "bytes"}

// name is the unit of a measure's rates.
func (u units) name(m measure) string {
	switch {
	case m == inPackets:
		return "pkt/s"
	case u == octets:
		return "byte/s"
	}
	return "bit/s"
}

// rate returns a count over a time as a number a second, 0 if there is no time.
func (u units) rate(c epoch.Count, m measure, over time.Duration) float64 {
	if over <= 0 {
		return 0
	}
	v := float64(m.of(c))
	if m == inBytes && u == bits {
		v *= 8
	}
	return v / over.Seconds()
}

// percent writes a part of a whole in at most five characters.
func percent(part, whole uint64) string {
	if whole == 0 {
		return "-"
	}
	share := 100 * float64(part) / float64(whole)
	if share >= 99.95 {
		return fmt.Sprintf("%.0f%%", share)
	}
	return fmt.Sprintf("%.1f%%", share)
}

// bar draws a share from 0 to 1 in so many cells, to an eighth of a cell.
func bar(share float64, width int) string {
	eighths := int(min(max(share, 0), 1)*float64(8*width) + 0.5)
	text := strings.Repeat("█", eighths/8)
	if eighths%8 > 0 {
		text += string([]rune("▏▎▍▌▋▊▉")[eighths%8-1])
	}
	return fit(text, width)
}

// age writes how old something is.
func age(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return d.Truncate(time.Second).String()
	}
	return d.Truncate(time.Minute).String()
}
