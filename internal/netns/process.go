package netns

import (
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Process is a child process that runs in a namespace.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start starts the command in the namespace. The command is in a process group
// of its own, so that a Ctrl-C at the terminal reaches only the parent, which
// can then stop its children in order; and the kernel kills it should the
// parent die without having done so.
func (n *Namespace) Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(n, started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// run holds its thread until the child has ended: the child's death signal is
// tied to the thread that started it, and its namespace is that thread's. The
// thread is in a foreign namespace afterwards, so it ends with the goroutine.
func (p *Process) run(n *Namespace, started chan<- error) {
	runtime.LockOSThread()
	if err := n.enter(); err != nil {
		started <- err
		return
	}
	if p.cmd.SysProcAttr == nil {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	p.cmd.SysProcAttr.Setpgid = true
	p.cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := p.cmd.Start(); err != nil {
		started <- fmt.Errorf("start %s: %w", p.cmd.Path, err)
		return
	}
	started <- nil
	p.err = p.cmd.Wait()
	close(p.done)
}

// Pid returns the process's id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended and its output is copied.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the end of the process and returns exec.Cmd.Wait's error.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Signal sends the process a signal.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Stop asks the process to end (SIGTERM), kills it if it hasn't after the
// given time, and returns once it is gone. It says whether it had to kill.
func (p *Process) Stop(grace time.Duration) (killed bool) {
	// The only error is that the process has ended already.
	_ = p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return false
	case <-time.After(grace):
	}
	_ = p.Signal(syscall.SIGKILL)
	<-p.done
	return true
}
