package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/traffic-monitor-agent/tma/benchmark/load"
	"github.com/traffic-monitor-agent/tma/internal/netns"
)

// settings say how long a run takes.
type settings struct {
	Repeats int `json:"repeats"` // starts of each candidate in each row
	Slices  int `json:"slices"`  // measurements a start
	Packets int `json:"packets"` // a measurement
	Rate    int `json:"rate"`    // packets a second
}

// column is a candidate and the program that is its user space.
type column struct {
	name       string
	candidate  string
	executable string
}

// sample is one measurement.
type sample struct {
	Workload    string  `json:"workload"`
	Candidate   string  `json:"candidate"`
	Repeat      int     `json:"repeat"`
	Nanoseconds float64 `json:"nanoseconds"` // a run, as the kernel's statistics say
	Packets     uint64  `json:"packets"`
	Seconds     float64 `json:"seconds"`
	Kept        float64 `json:"kept"` // share of the packets that user space knows the flow or the prefix of
}

// bench measures on a wire, by the kernel's statistics.
type bench struct {
	*load.Wire
	stats io.Closer
}

func newBench() (*bench, error) {
	w, err := load.NewWire()
	if err != nil {
		return nil, err
	}
	// As kernel.bpf_stats_enabled, but for as long as the descriptor is open.
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("enable the kernel's BPF statistics: %w", err), w.Close())
	}
	return &bench{w, stats}, nil
}

func (b *bench) close() error { return errors.Join(b.stats.Close(), b.Wire.Close()) }

// run measures all columns of all rows, in turn, so that whatever slows the
// machine down for a while slows down neighbours in the table alike. The columns'
// order changes with each repeat.
func (b *bench) run(s settings, rows []load.Workload, columns []column, each func([]sample)) error {
	undo, err := load.Pin()
	if err != nil {
		return err
	}
	defer undo()
	for repeat := range s.Repeats {
		for _, row := range rows {
			for i := range columns {
				c := columns[(i+repeat)%len(columns)]
				samples, err := b.measure(s, row, c)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", row.Name, c.name, err)
				}
				for i := range samples {
					samples[i].Repeat = repeat
				}
				each(samples)
			}
		}
	}
	return nil
}

// warmUp is how many packets are sent before the measurement, besides each flow's
// first.
const warmUp = 10_000

// measure starts a candidate, sends it each flow once and then the workload.
func (b *bench) measure(s settings, w load.Workload, c column) ([]sample, error) {
	user, err := b.start(c)
	if err != nil {
		return nil, err
	}
	defer user.stop()
	program, err := b.candidate(user)
	if err != nil {
		return nil, err
	}
	defer program.Close()
	from := load.NewSource(w)
	if err := b.Sender.Send(&load.Source{}, w.Flows, s.Rate); err != nil {
		return nil, err
	}
	if err := b.Sender.Send(from, warmUp, s.Rate); err != nil {
		return nil, err
	}
	samples, err := b.slices(s, program, from)
	if err != nil {
		return nil, err
	}
	end, err := user.finish()
	if err != nil {
		return nil, err
	}
	for i := range samples {
		samples[i].Workload, samples[i].Candidate, samples[i].Kept = w.Name, c.name, end.share()
	}
	return samples, nil
}

// slices measures one program several times in a row. Short measurements tell the
// program's cost from that of whatever else the machine does.
func (b *bench) slices(s settings, program *ebpf.Program, from *load.Source) ([]sample, error) {
	samples := make([]sample, s.Slices)
	before, err := settled(program)
	if err != nil {
		return nil, err
	}
	for i := range samples {
		start := time.Now()
		if err := b.Sender.Send(from, s.Packets, s.Rate); err != nil {
			return nil, err
		}
		took := time.Since(start)
		after, err := settled(program)
		if err != nil {
			return nil, err
		}
		runs := after.RunCount - before.RunCount
		if runs != uint64(s.Packets) {
			return nil, fmt.Errorf("the program ran %d times for %d packets", runs, s.Packets)
		}
		samples[i] = sample{
			Packets: runs, Seconds: took.Seconds(),
			Nanoseconds: float64(after.Runtime-before.Runtime) / float64(runs),
		}
		before = after
	}
	return samples, nil
}

// settled returns the statistics of a program once no packet is on its way.
func settled(p *ebpf.Program) (*ebpf.ProgramStats, error) {
	s, err := p.Stats()
	for err == nil {
		last := s.RunCount
		time.Sleep(2 * time.Millisecond)
		if s, err = p.Stats(); err == nil && s.RunCount == last {
			return s, nil
		}
	}
	return nil, fmt.Errorf("read the program's statistics: %w", err)
}

// attachTimeout is how long a candidate may take to load.
const attachTimeout = 20 * time.Second

// candidate waits for the candidate to attach and returns its program.
func (b *bench) candidate(user *process) (*ebpf.Program, error) {
	for deadline := time.Now().Add(attachTimeout); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		var programs *link.QueryResult
		err := b.Namespace.Do(func() (err error) {
			programs, err = link.QueryPrograms(link.QueryOptions{Target: b.Device.Index, Attach: ebpf.AttachTCXIngress})
			return err
		})
		// ENOSPC: the candidate attached between the two system calls of a query.
		if err != nil && !errors.Is(err, unix.ENOSPC) {
			return nil, fmt.Errorf("list the programs of the device: %w", err)
		}
		if err == nil && len(programs.Programs) == 2 {
			return ebpf.NewProgramFromID(programs.Programs[0].ID)
		}
		select {
		case <-user.Done():
			return nil, fmt.Errorf("ended before it attached: %w", user.Wait())
		default:
		}
	}
	return nil, fmt.Errorf("didn't attach within %v", attachTimeout)
}

// process is a candidate's user space.
type process struct {
	*netns.Process
	stdin  io.Closer
	output *os.File
}

func (b *bench) start(c column) (*process, error) {
	output, err := os.CreateTemp("", "bench-capture")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(output.Name()); err != nil {
		return nil, err
	}
	cmd := exec.Command(c.executable, candidateCommand, c.candidate)
	cmd.Stdout, cmd.Stderr = output, os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p, err := b.Namespace.Start(cmd)
	if err != nil {
		return nil, err
	}
	return &process{p, stdin, output}, nil
}

// finish lets the process end and returns its summary.
func (p *process) finish() (s summary, err error) {
	if err := errors.Join(p.stdin.Close(), p.Wait()); err != nil {
		return s, err
	}
	if _, err := p.output.Seek(0, io.SeekStart); err != nil {
		return s, err
	}
	return s, json.NewDecoder(p.output).Decode(&s)
}

// stop ends the process if it runs still.
func (p *process) stop() {
	p.Stop(time.Second)
	p.output.Close()
}
