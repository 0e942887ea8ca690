package netns_test

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/netns"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// inode names the namespace that the calling thread is in.
func inode(t *testing.T) string {
	t.Helper()
	name, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// A function sees the namespace; every other goroutine, however threads are
// reused, the old one.
func TestDoLeavesOtherThreadsAlone(t *testing.T) {
	n := testutil.Namespace(t)
	outside := inode(t)
	for range 50 {
		var inside string
		if err := n.Do(func() error { inside = inode(t); return nil }); err != nil {
			t.Fatal(err)
		}
		if inside == outside {
			t.Fatal("the function ran outside the namespace")
		}
		seen := make(chan string)
		go func() {
			runtime.LockOSThread()
			seen <- inode(t)
		}()
		if got := <-seen; got != outside {
			t.Fatalf("another goroutine is in %s, want %s", got, outside)
		}
	}
}

func TestDoReturnsTheError(t *testing.T) {
	n := testutil.Namespace(t)
	want := errors.New("an error")
	if err := n.Do(func() error { return want }); err != want {
		t.Errorf("got %v, want %v", err, want)
	}
	if err := n.Do(func() error { runtime.Goexit(); return nil }); err != netns.ErrAborted {
		t.Errorf("got %v, want %v", err, netns.ErrAborted)
	}
}

func TestNames(t *testing.T) {
	testutil.RequireRoot(t)
	const name = "tma-test-names"
	n, err := netns.NewNamed(name)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	defer netns.Remove(name)
	list, err := exec.Command("ip", "netns", "list").Output()
	if err != nil || !slices.Contains(strings.Fields(string(list)), name) {
		t.Errorf("ip netns lists %q, %v", list, err)
	}
	if _, err := netns.NewNamed(name); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the name a second time: %v, want %v", err, fs.ErrExist)
	}
	again, err := netns.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	var first, second string
	n.Do(func() error { first = inode(t); return nil })
	again.Do(func() error { second = inode(t); return nil })
	if first != second {
		t.Errorf("the name stands for %s, want %s", second, first)
	}
	for range 2 {
		if err := netns.Remove(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := netns.Open(name); !errors.Is(err, fs.ErrNotExist) || netns.Exists(name) {
		t.Errorf("after Remove: %v, want %v", err, fs.ErrNotExist)
	}
}

// A namespace of iproute2's in between doesn't bury the name.
func TestNameBesideIproute(t *testing.T) {
	testutil.RequireRoot(t)
	const name, other = "tma-test-beside", "tma-test-iproute"
	n, err := netns.NewNamed(name)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if output, err := exec.Command("ip", "netns", "add", other).CombinedOutput(); err != nil {
		t.Errorf("ip netns add: %v: %s", err, output)
	}
	if err := netns.Remove(name); err != nil {
		t.Error(err)
	}
	if output, err := exec.Command("ip", "netns", "delete", other).CombinedOutput(); err != nil {
		t.Errorf("ip netns delete: %v: %s", err, output)
	}
}

func TestStartRunsInside(t *testing.T) {
	n := testutil.Namespace(t)
	var output bytes.Buffer
	cmd := exec.Command("readlink", "/proc/self/ns/net")
	cmd.Stdout = &output
	p, err := n.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	var inside string
	n.Do(func() error { inside = inode(t); return nil })
	if got := strings.TrimSpace(output.String()); got != inside {
		t.Errorf("the program ran in %s, want %s", got, inside)
	}
	if _, err := n.Start(exec.Command("/nowhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a program that doesn't exist: %v", err)
	}
}

func TestProcessesAreThoseInside(t *testing.T) {
	n := testutil.Namespace(t)
	if pids, err := n.Processes(); err != nil || len(pids) != 0 {
		t.Errorf("processes %v, %v in a new namespace", pids, err)
	}
	p, err := n.Start(exec.Command("sleep", "60"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop(0)
	if pids, err := n.Processes(); err != nil || !slices.Equal(pids, []int{p.Pid()}) {
		t.Errorf("processes %v, %v, want %d", pids, err, p.Pid())
	}
}

func TestStop(t *testing.T) {
	n := testutil.Namespace(t)
	polite, err := n.Start(exec.Command("sleep", "60"))
	if err != nil {
		t.Fatal(err)
	}
	if killed := polite.Stop(10 * time.Second); killed {
		t.Error("a program that ends on SIGTERM was killed")
	}
	cmd := exec.Command("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
	ready, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stubborn, err := n.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if killed := stubborn.Stop(50 * time.Millisecond); !killed {
		t.Error("a program that ignores SIGTERM wasn't killed")
	}
	if err := syscall.Kill(stubborn.Pid(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("after Stop: %v, want no such process", err)
	}
}

// A program in a namespace without any way out answers on a socket that was
// made outside, and was told of it by systemd's protocol.
func TestPassListeners(t *testing.T) {
	n := testutil.Namespace(t)
	socket, address, err := netns.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=TestServeOnce")
	cmd.Env = append(os.Environ(), "TMA_TEST_SERVE=1")
	cmd.Stderr = os.Stderr
	netns.PassListeners(cmd, socket)
	p, err := n.Start(cmd)
	socket.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop(0)
	conn, err := net.Dial("tcp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	var inside string
	n.Do(func() error { inside = inode(t); return nil })
	answer := make([]byte, 100)
	length, err := conn.Read(answer)
	if err != nil || string(answer[:length]) != inside {
		t.Errorf("answer %q, %v, want %q", answer[:length], err, inside)
	}
}

// TestServeOnce is the program of TestPassListeners.
func TestServeOnce(t *testing.T) {
	if os.Getenv("TMA_TEST_SERVE") == "" {
		return // this isn't that program
	}
	if os.Getenv("LISTEN_FDS") != "1" || os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		t.Fatalf("LISTEN_FDS=%s LISTEN_PID=%s, own id %d", os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_PID"), os.Getpid())
	}
	listener, err := net.FileListener(os.NewFile(3, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(inode(t))); err != nil {
		t.Fatal(err)
	}
}
