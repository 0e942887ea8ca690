package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/traffic-monitor-agent/tma/lab/kernels/plan"
)

// emulator runs the virtual machines, by software: a machine that has /dev/kvm and
// one that hasn't get the same.
const emulator = "qemu-system-x86_64"

// machine is a virtual machine for one run.
type machine struct {
	kernel, filesystem string
	console            string // file that gets what the kernel prints
	limit              time.Duration
}

// run boots the machine and hands each report to take. It returns an error unless
// the machine said that it is done and switched itself off.
func (m *machine) run(ctx context.Context, take func(plan.Report)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, m.limit, fmt.Errorf("not done within %v", m.limit))
	defer cancel()
	reports, port, err := os.Pipe()
	if err != nil {
		return err
	}
	defer reports.Close()
	command := m.command(ctx, port)
	var failure strings.Builder
	command.Stderr = &failure
	err = command.Start()
	port.Close()
	if err != nil {
		return fmt.Errorf("start %s: %w", emulator, err)
	}
	done := false
	readError := read(reports, func(r plan.Report) {
		done = done || r.Done
		take(r)
	})
	err = errors.Join(readError, command.Wait())
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(failure.String()))
	}
	if !done {
		return errors.New("the virtual machine ended before it was done")
	}
	return nil
}

// command is the emulator: two CPUs, no network, no disk, the console in a file and
// the reports on the descriptor. A panic ends it.
func (m *machine) command(ctx context.Context, port *os.File) *exec.Cmd {
	command := exec.CommandContext(ctx, emulator,
		"-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "max", "-smp", "2", "-m", "1536",
		"-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-no-reboot",
		"-kernel", m.kernel, "-initrd", m.filesystem,
		"-append", "console=ttyS0 panic=-1 quiet loglevel=4 mitigations=off tsc=reliable clocksource=tsc",
		"-serial", "file:"+m.console,
		"-chardev", "file,id=reports,path=/dev/fd/3", "-serial", "chardev:reports")
	command.ExtraFiles = []*os.File{port}
	return command
}

// read decodes reports, one a line, until the other end closes.
func read(from io.Reader, take func(plan.Report)) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r plan.Report
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return fmt.Errorf("report %q: %w", lines.Text(), err)
		}
		take(r)
	}
	return lines.Err()
}
