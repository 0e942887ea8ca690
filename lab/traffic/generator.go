package traffic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"
)

// Generator sends the packets of a plan, once.
type Generator struct {
	configuration Configuration
	flows         []Flow
	hops          []hop
	order         *order
	random        *rand.Rand
	batch         *batch
	result        Result
}

// Result is what a run came to.
type Result struct {
	// Packets and Bytes are what the kernel took.
	Packets, Bytes uint64
	// Refused counts attempts to send that failed because a queue was full
	// and that were repeated. A hook before that queue has seen the packet
	// already, and sees it again.
	Refused uint64
	Elapsed time.Duration
}

// Rate is the packets per second that were reached.
func (r Result) Rate() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Packets) / r.Elapsed.Seconds()
}

// New plans the traffic and checks the configuration. Nothing is sent yet.
func New(c Configuration) (*Generator, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	flows, err := plan(c)
	if err != nil {
		return nil, err
	}
	return &Generator{
		configuration: c,
		flows:         flows,
		order:         newOrder(flows),
		random:        newRandom(c.Seed, orderStream),
	}, nil
}

// Flows returns all flows with their counts so far: the ground truth once Run
// has returned. The caller must not change them.
func (g *Generator) Flows() []Flow { return g.flows }

// Run sends until all packets are sent, the configured duration is over or the
// context is done; these are no errors. It must be called on a thread in the
// namespace that is to send, as netns.Namespace.Do does, and only once.
func (g *Generator) Run(ctx context.Context) (Result, error) {
	if err := g.open(); err != nil {
		return Result{}, err
	}
	defer g.batch.close()
	if g.configuration.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, g.configuration.Duration)
		defer cancel()
	}
	start := time.Now()
	err := g.sendAll(ctx, start)
	g.result.Elapsed = time.Since(start)
	return g.result, err
}

func (g *Generator) open() (err error) {
	if g.hops, err = resolveAll(destinationsOf(g.flows)); err != nil {
		return err
	}
	g.batch, err = openBatch()
	return err
}

func (g *Generator) sendAll(ctx context.Context, start time.Time) error {
	for g.order.left > 0 && ctx.Err() == nil {
		count := g.due(time.Since(start))
		if count == 0 {
			wait(ctx, pause)
			continue
		}
		g.fill(count)
		if err := g.sendBatch(ctx, count); err != nil {
			return err
		}
	}
	return nil
}

// pause is how long the generator sleeps when it is ahead of its rate.
const pause = 500 * time.Microsecond

// due is how many packets are to be sent now: as many as the rate has come to
// since the start and aren't sent, but no more than a batch or than are left.
func (g *Generator) due(elapsed time.Duration) int {
	count := min(batchLen, g.order.left)
	if g.configuration.Rate > 0 {
		target := uint64(g.configuration.Rate * elapsed.Seconds())
		count = min(count, target-min(target, g.result.Packets))
	}
	return int(count)
}

// fill writes the next packets into the batch.
func (g *Generator) fill(count int) {
	for i := range count {
		index := g.order.next(g.random)
		f := &g.flows[index]
		wanted := f.size.Min
		if f.size.Max > f.size.Min {
			wanted += g.random.IntN(f.size.Max - f.size.Min + 1)
		}
		to := &g.hops[f.hop]
		g.batch.frames[i].flow = index
		g.batch.frames[i].write(f, wanted, to)
		g.batch.prepare(i, to)
	}
}

// sendBatch sends the batch's first packets and counts those that the kernel
// took. What a full queue refuses is offered again, so that the plan is kept.
func (g *Generator) sendBatch(ctx context.Context, count int) error {
	for sent := 0; sent < count; {
		n, err := g.batch.send(sent, count)
		g.account(sent, sent+n)
		sent += n
		switch {
		case err == nil || errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOBUFS):
			g.result.Refused++
			wait(ctx, pause)
		default:
			return fmt.Errorf("send packets: %w", err)
		}
		if n == 0 && ctx.Err() != nil {
			return nil
		}
	}
	return nil
}

// account counts the batch's frames from one index to another as sent.
func (g *Generator) account(from, to int) {
	for i := from; i < to; i++ {
		f := &g.batch.frames[i]
		length := uint64(f.wireLength())
		g.flows[f.flow].Packets++
		g.flows[f.flow].Bytes += length
		g.result.Packets++
		g.result.Bytes += length
	}
}

// wait sleeps, or returns at once if the context is done.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
