package demo

import (
	"bytes"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/netns"
)

// child is a program of the demo.
type child struct {
	name    string
	process *netns.Process
	log     *tail
}

// start starts the command in a namespace and keeps its last output.
func start(name string, in *netns.Namespace, cmd *exec.Cmd) (*child, error) {
	c := &child{name: name, log: &tail{}}
	cmd.Stdout, cmd.Stderr = c.log, c.log
	var err error
	if c.process, err = in.Start(cmd); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// ended returns the error that says how the child ended, with its last output;
// nil while it runs.
func (c *child) ended() error {
	select {
	case <-c.process.Done():
		return fmt.Errorf("%s ended (%s); its last words:\n%s", c.name, describe(c.process.Wait()), c.log)
	default:
		return nil
	}
}

func describe(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// stopGrace is how long children have to end before they are killed.
const stopGrace = 5 * time.Second

// stopAll stops the children, all at once, and returns when they are gone.
func stopAll(children []*child) {
	var all sync.WaitGroup
	for _, c := range children {
		all.Go(func() { c.process.Stop(stopGrace) })
	}
	all.Wait()
}

// tailLines is how much of a child's output is kept.
const tailLines = 10

// tail is a writer that keeps the last lines. A line that is longer than
// maxLine is cut.
type tail struct {
	mutex   sync.Mutex
	lines   []string
	partial []byte
}

const maxLine = 1000

// Write takes output in any pieces; it never fails.
func (t *tail) Write(data []byte) (int, error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for rest := data; len(rest) > 0; {
		line, after, complete := bytes.Cut(rest, []byte("\n"))
		rest = after
		t.partial = append(t.partial, line[:min(len(line), maxLine-len(t.partial))]...)
		if complete {
			t.lines = append(t.lines, string(t.partial))
			t.partial = t.partial[:0]
		}
	}
	t.lines = slices.Clone(t.lines[max(0, len(t.lines)-tailLines):])
	return len(data), nil
}

// String returns the lines, indented.
func (t *tail) String() string {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	lines := t.lines
	if len(t.partial) > 0 {
		lines = append(slices.Clone(lines), string(t.partial))
	}
	if len(lines) == 0 {
		return "  (nothing)"
	}
	return "  " + strings.Join(lines, "\n  ")
}
