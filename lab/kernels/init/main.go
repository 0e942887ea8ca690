// Command init is the first and only program of a virtual machine that tests a
// kernel: it mounts what the tests need, loads modules, runs the plan's commands,
// reports over the second serial port and switches the machine off.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/traffic-monitor-agent/tma/lab/kernels/plan"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: this is the first process of a virtual machine, nothing to run by hand")
		os.Exit(1)
	}
	err := mountAll()
	port, openError := os.OpenFile("/dev/ttyS1", os.O_WRONLY, 0)
	if openError != nil {
		fmt.Println("init:", openError)
		powerOff()
	}
	r := reporter{json.NewEncoder(port)}
	if err == nil {
		err = r.run()
	}
	if err != nil {
		r.send(plan.Report{Error: err.Error()})
	}
	r.send(plan.Report{Done: true})
	unix.Sync()
	port.Close() // waits until all is sent
	powerOff()
}

func powerOff() {
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {} // if this process ended, the kernel would panic
}

var mounts = []struct{ kind, target string }{
	{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/tmp"}, {"tmpfs", "/run"}, {"bpf", "/sys/fs/bpf"},
}

func mountAll() error {
	for _, m := range mounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.target, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}

// reporter writes reports.
type reporter struct{ encoder *json.Encoder }

func (r reporter) send(report plan.Report) {
	if err := r.encoder.Encode(report); err != nil {
		fmt.Println("init:", err)
	}
}

// run carries out the plan.
func (r reporter) run() error {
	content, err := os.ReadFile(plan.File)
	if err != nil {
		return err
	}
	var p plan.Plan
	if err := json.Unmarshal(content, &p); err != nil {
		return err
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	r.send(plan.Report{Kernel: unix.ByteSliceToString(name.Release[:]) + " " + unix.ByteSliceToString(name.Version[:])})
	for _, file := range p.Modules {
		if err := load(file); err != nil {
			return err
		}
	}
	if err := setUpLoopback(); err != nil {
		return err
	}
	for i := range p.Commands {
		r.command(&p.Commands[i])
	}
	return nil
}

func load(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load %s: %w", file, err)
	}
	return nil
}

func setUpLoopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// command runs a program and reports its output and its exit code.
func (r reporter) command(c *plan.Command) {
	cmd := exec.Command(c.Path, c.Arguments...)
	cmd.Env = append([]string{"PATH=/bin", "HOME=/tmp", "TMPDIR=/tmp"}, c.Environment...)
	cmd.Dir = "/tmp"
	output, writer := io.Pipe()
	cmd.Stdout, cmd.Stderr = writer, writer
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		r.lines(c.Name, output)
	}()
	err := cmd.Run()
	writer.Close()
	<-finished
	code := 0
	if err != nil {
		code = -1
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			code = exit.ExitCode()
		} else {
			r.send(plan.Report{Command: c.Name, Line: err.Error()})
		}
	}
	r.send(plan.Report{Command: c.Name, Exit: &code})
}

// lines reports each line of a command's output.
func (r reporter) lines(command string, output io.Reader) {
	reader := bufio.NewReader(output)
	for {
		line, err := reader.ReadString('\n')
		if line = strings.TrimRight(line, "\n"); line != "" {
			r.send(plan.Report{Command: command, Line: line})
		}
		if err != nil {
			return
		}
	}
}
