package traffic

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// ErrNotRunning is SetMode's error before Run and after it.
var ErrNotRunning = errors.New("the normal traffic isn't running")

// Controller runs normal traffic and, while it runs, heavy traffic beside it
// on demand. It starts nothing but what it was configured with, and every
// heavy run ends by itself.
type Controller struct {
	normal *Generator
	heavy  Configuration

	mutex   sync.Mutex
	run     context.Context // of Run; nil when that isn't running
	current *heavyRun       // nil in normal mode
	past    *tally          // of heavy runs that have ended
	failure error           // of the last heavy run
}

// heavyRun is a run of heavy traffic that hasn't ended.
type heavyRun struct {
	generator *Generator
	ends      time.Time // at the latest
	cancel    context.CancelFunc
	done      chan struct{}
}

// State is what a controller is doing.
type State struct {
	Mode Mode `json:"mode"`
	// HeavyEnds is when heavy traffic ends at the latest; nil in normal mode.
	HeavyEnds *time.Time `json:"heavy_ends,omitempty"`
	// Error says why the last heavy run failed, if it did.
	Error string `json:"error,omitempty"`
}

// NewController plans the normal traffic, and checks the configuration of the
// heavy traffic, which must have a duration.
func NewController(normal, heavy Configuration) (*Controller, error) {
	heavy.Mode = Heavy
	if heavy.Duration <= 0 {
		return nil, errors.New("heavy traffic needs a duration")
	}
	if _, err := New(heavy); err != nil {
		return nil, err
	}
	generator, err := New(normal)
	if err != nil {
		return nil, err
	}
	return &Controller{normal: generator, heavy: heavy, past: newTally()}, nil
}

// Run sends the normal traffic, as Generator.Run does, and ends heavy traffic
// that still runs with it. The result is that of the normal traffic. All
// threads of the process must be in the namespace that is to send.
func (c *Controller) Run(ctx context.Context) (Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mutex.Lock()
	c.run = ctx
	c.mutex.Unlock()
	result, err := c.normal.Run(ctx)
	c.mutex.Lock()
	c.run = nil
	c.mutex.Unlock()
	c.stopHeavy()
	return result, err
}

// State returns what the controller is doing.
func (c *Controller) State() State {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	s := State{Mode: Normal}
	if c.current != nil {
		s.Mode, s.HeavyEnds = Heavy, &c.current.ends
	}
	if c.failure != nil {
		s.Error = c.failure.Error()
	}
	return s
}

// SetMode starts a run of heavy traffic, unless one is running, or ends it.
func (c *Controller) SetMode(m Mode) error {
	if m == Heavy {
		return c.startHeavy()
	}
	c.stopHeavy()
	return nil
}

func (c *Controller) startHeavy() error {
	generator, err := New(c.heavy)
	if err != nil {
		return err
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.run == nil {
		return ErrNotRunning
	}
	if c.current != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(c.run)
	c.failure = nil
	c.current = &heavyRun{
		generator: generator, ends: time.Now().Add(c.heavy.Duration),
		cancel: cancel, done: make(chan struct{}),
	}
	go c.runHeavy(ctx, c.current)
	return nil
}

func (c *Controller) runHeavy(ctx context.Context, h *heavyRun) {
	_, err := h.generator.Run(ctx)
	h.cancel()
	c.mutex.Lock()
	c.failure = err
	c.past.add(h.generator.Flows())
	c.current = nil
	c.mutex.Unlock()
	close(h.done)
}

// stopHeavy returns when no heavy traffic runs.
func (c *Controller) stopHeavy() {
	c.mutex.Lock()
	h := c.current
	c.mutex.Unlock()
	if h != nil {
		h.cancel()
		<-h.done
	}
}

// Flows returns what was sent of every flow, normal and heavy traffic
// together, once Run has returned.
func (c *Controller) Flows() []Flow {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	all := newTally()
	all.add(c.normal.Flows())
	all.add(c.past.flows)
	return all.flows
}

// tally adds up flows by key. Heavy runs all have the same flows, so however
// many there are it holds no more than one.
type tally struct {
	flows []Flow
	index map[flow.Key]int
}

func newTally() *tally { return &tally{index: map[flow.Key]int{}} }

func (t *tally) add(flows []Flow) {
	for _, f := range flows {
		i, found := t.index[f.Key]
		if !found {
			t.index[f.Key] = len(t.flows)
			t.flows = append(t.flows, f)
			continue
		}
		t.flows[i].Planned += f.Planned
		t.flows[i].Packets += f.Packets
		t.flows[i].Bytes += f.Bytes
	}
}
