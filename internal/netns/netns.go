// Package netns makes Linux network namespaces, runs functions and programs in
// them, and hands listening sockets across their borders.
//
// A namespace belongs to a thread, not to a process, so everything here is
// about the thread that a goroutine runs on: Do moves one for the time of a
// call, Start keeps one for the life of a child process.
package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// ErrAborted is Do's error when the function ended its goroutine (as
// testing.T.FailNow does) instead of returning.
var ErrAborted = errors.New("the function ended its goroutine in the namespace")

// Namespace is a network namespace, kept alive by this handle until Close, and
// if it has a name also by that name until Remove.
type Namespace struct {
	name   string
	handle *os.File
}

// New makes a namespace without a name: the kernel removes it, and every
// device in it, when the handle is closed and no process is left inside, even
// if this program is killed.
func New() (*Namespace, error) {
	n := &Namespace{}
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		n.handle, err = openCurrent()
		return err
	})
	if err != nil {
		return nil, err
	}
	return n, nil
}

// Current returns a handle of the namespace that the calling thread is in.
func Current() (*Namespace, error) {
	handle, err := openCurrent()
	if err != nil {
		return nil, err
	}
	return &Namespace{handle: handle}, nil
}

// Name returns the name under which `ip netns` lists the namespace, "" if it
// has none.
func (n *Namespace) Name() string { return n.name }

// Fd returns the descriptor that stands for the namespace in system calls. It
// is valid until Close.
func (n *Namespace) Fd() int { return int(n.handle.Fd()) }

// Close gives up the handle. A namespace without a name ends with it.
func (n *Namespace) Close() error { return n.handle.Close() }

// Do runs f on a thread inside the namespace and returns its error. f runs in
// a goroutine of its own and must neither start goroutines that rely on the
// namespace nor call runtime.LockOSThread; sockets it opens stay in the
// namespace and may be used from anywhere.
func (n *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := n.enter(); err != nil {
			return err
		}
		return f()
	})
}

// enter moves the calling thread, which must be locked, into the namespace.
func (n *Namespace) enter() error {
	if err := unix.Setns(n.Fd(), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", n.name, err)
	}
	return nil
}

// onThread runs f on a locked thread that f may move to another namespace, and
// moves the thread back. A thread that can't be moved back is never unlocked:
// the runtime then ends it with the goroutine instead of giving it to others.
func onThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		err := ErrAborted
		defer func() { result <- err }()
		runtime.LockOSThread()
		home, openErr := openCurrent()
		if openErr != nil {
			err = openErr
			return
		}
		defer func() {
			if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
			home.Close()
		}()
		err = f()
	}()
	return <-result
}

// openCurrent opens the calling thread's namespace. /proc/self would be the
// main thread's.
func openCurrent() (*os.File, error) {
	f, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open the thread's network namespace: %w", err)
	}
	return f, nil
}
