package top

import (
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// helpText is the help screen; lines are wrapped to the screen's width.
var helpText = []string{
	"tab, left, right, 1-7   next view, previous view, view by number",
	"s, >, <                 sort by bytes, packets or name",
	"r                       reverse the order",
	"w                       window of shares and the order: 2s, 10s, 40s",
	"b                       rates in bits or in bytes",
	"n                       services by name or by port",
	"p, space                pause; goes on with what came meanwhile",
	"up, down, pgup, pgdown  scroll; what is out of sight is in the line other",
	"/                       filter; esc ends it",
	"q, ctrl-c               quit; ctrl-z suspends",
	"",
	"A filter: " + filterHelp + ".",
	"Example: net 10.0.0.0/8 (port 443 or proto udp) not host 10.0.0.7",
	"",
	"Rows and the lines below them add up to the total. OWN is what of a prefix is in no longer heavy prefix; " +
		"a prefix is heavy from 1 % of the total on.",
}

func (m *model) helpLines() []string {
	lines := []string{m.title(), ""}
	for _, text := range helpText {
		lines = append(lines, strings.Split(ansi.Wordwrap(text, max(m.width, 1), ""), "\n")...)
	}
	return append(lines, "", faint.Render(fit("any key goes back", m.width)))
}
