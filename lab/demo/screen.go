package demo

import (
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// screen shows lines: on a terminal in place, else one after the other.
type screen struct {
	output   io.Writer
	terminal *os.File // nil if the output is none
	drawn    bool
	footer   []string // on a terminal below what is drawn
}

func newScreen(output io.Writer) *screen {
	s := &screen{output: output}
	if file, ok := output.(*os.File); ok {
		if _, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS); err == nil {
			s.terminal = file
		}
	}
	return s
}

// print shows lines that stay.
func (s *screen) print(lines []string) error {
	_, err := io.WriteString(s.output, strings.Join(lines, "\n")+"\n")
	return err
}

// ANSI control sequences (ECMA-48).
const (
	clearScreen  = "\x1b[2J"
	cursorHome   = "\x1b[H"
	clearLine    = "\x1b[K"
	clearToEnd   = "\x1b[J"
	fallbackRows = 24
	fallbackCols = 80
)

// draw shows the lines in place of those drawn before.
func (s *screen) draw(lines []string) error {
	if s.terminal == nil {
		return s.print(lines)
	}
	rows, columns := s.size()
	lines = append(lines, s.footer...)
	var text strings.Builder
	if !s.drawn {
		text.WriteString(clearScreen)
		s.drawn = true
	}
	text.WriteString(cursorHome + strings.Join(fit(lines, rows, columns), clearLine+"\r\n") + clearLine + clearToEnd)
	_, err := io.WriteString(s.terminal, text.String())
	return err
}

// How many rows a table has at most, and how many rows a view with three
// tables has besides theirs: headings, empty lines, footer.
const (
	maxTableRows = 10
	otherRows    = 13
)

// tableRows is how many rows a table may have for all to fit.
func (s *screen) tableRows() int {
	if s.terminal == nil {
		return maxTableRows
	}
	rows, _ := s.size()
	return max(1, min(maxTableRows, (rows-otherRows)/3))
}

// size asks for the terminal's size each time: it may change.
func (s *screen) size() (rows, columns int) {
	size, err := unix.IoctlGetWinsize(int(s.terminal.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Row == 0 || size.Col == 0 {
		return fallbackRows, fallbackCols
	}
	return int(size.Row), int(size.Col)
}

// fit cuts the lines to a terminal's size. The last row and column stay free,
// so that no terminal scrolls or wraps.
func fit(lines []string, rows, columns int) []string {
	lines = lines[:min(len(lines), max(1, rows-1))]
	fitted := make([]string, len(lines))
	for i, line := range lines {
		fitted[i] = line
		if runes := []rune(line); len(runes) >= columns {
			fitted[i] = string(runes[:max(0, columns-1)])
		}
	}
	return fitted
}
