// Package top shows the traffic of a running exporter as it goes: in a terminal on a
// screen that answers to keys, elsewhere as plain tables for scripts.
//
// It reads the exporter's epochs, as an aggregator does, and computes everything from
// them: windows, rankings, heavy prefixes, distinct counts. Every byte is in a row or
// in one of the lines below the rows that say why it isn't, so that what is shown
// always adds up to the total.
package top

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	tea "charm.land/bubbletea/v2"
	"golang.org/x/term"

	"github.com/traffic-monitor-agent/tma/internal/poll"
)

// top is what both ways to show it have in common.
type top struct {
	query    query
	units    units
	filter   string // the text of the query's
	interval time.Duration
	rows     int
	count    int
	shown    string // the exporter's address
	feed     *feed
	now      func() time.Time
}

// Run shows the exporter's traffic until the user or the context ends it, or as often
// as the configuration says: on a screen if out is a terminal, as plain tables
// otherwise. Errors are one line.
func Run(ctx context.Context, c Configuration, out *os.File) error {
	t, err := newTop(&c)
	if err != nil {
		return err
	}
	defer t.feed.client.CloseIdleConnections()
	// A terminal that goes away must find its modes restored, too.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP)
	defer stop()
	if t.count > 0 || !isScreen(out) {
		return t.plain(ctx, out)
	}
	return t.screen(ctx, out)
}

func newTop(c *Configuration) (*top, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	t := &top{
		filter: c.Filter, interval: c.Interval, rows: c.Rows, count: c.Count,
		feed: &feed{reader: poll.NewReader()}, now: time.Now,
	}
	var err error
	if t.query, t.units, err = c.query(); err != nil {
		return nil, err
	}
	if t.feed.address, t.shown, err = c.epochsURL(); err != nil {
		return nil, err
	}
	t.feed.client, err = c.client()
	return t, err
}

// isScreen says whether a file is a terminal that can do more than print.
func isScreen(f *os.File) bool {
	return term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// panicReport is how long the library may take to write what a command's panic was: it
// ends the program before.
const panicReport = 500 * time.Millisecond

// screen runs the screen. The library restores the terminal whatever ends it, a panic
// in the model or in a command included.
func (t *top) screen(ctx context.Context, out *os.File) error {
	program := tea.NewProgram(newModel(ctx, t), tea.WithContext(ctx), tea.WithOutput(out), tea.WithoutSignalHandler())
	_, err := program.Run()
	switch {
	case errors.Is(err, tea.ErrProgramPanic):
		time.Sleep(panicReport)
		return errors.New("the screen ended by a panic, which is above")
	case ctx.Err() != nil:
		return nil // as asked
	}
	return err
}
