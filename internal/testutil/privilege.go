package testutil

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Nobody is the user and the group that StartUnprivileged runs programs as.
const Nobody = 65534

// StartUnprivileged starts a command as Nobody, with the capabilities and no way to any
// other, as a service manager does.
func StartUnprivileged(cmd *exec.Cmd, capabilities ...uintptr) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: Nobody, Gid: Nobody}
	cmd.SysProcAttr.AmbientCaps = capabilities
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := bound(capabilities)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
	}()
	return <-started
}

// bound bounds what the thread's children can ever get.
func bound(capabilities []uintptr) error {
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if slices.Contains(capabilities, c) {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if err != nil && err != unix.EINVAL { // the kernel doesn't know it
			return fmt.Errorf("drop capability %d from the bounding set: %w", c, err)
		}
	}
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

// Executable copies a program to where every user may run it, and returns its path.
func Executable(t testing.TB, program string) string {
	t.Helper()
	directory := OpenDir(t)
	path := filepath.Join(directory, filepath.Base(program))
	in, err := os.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	return path
}

// OpenDir is TempDir for what every user may look at.
func OpenDir(t testing.TB) string {
	t.Helper()
	directory := t.TempDir()
	// Above the test's own directory is one of mode 0700.
	for _, each := range []string{directory, filepath.Dir(directory)} {
		if err := os.Chmod(each, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return directory
}

// Capabilities returns the sets of capabilities of a process by their names in
// proc_pid_status(5), such as CapEff. It fails the test if its threads differ.
func Capabilities(t testing.TB, pid int) map[string]uint64 {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("no threads of process %d: %v", pid, err)
	}
	sets := map[string]uint64{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			continue // the thread ended
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range capabilityLine.FindAllStringSubmatch(string(text), -1) {
			value, err := strconv.ParseUint(line[2], 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			if before, found := sets[line[1]]; found && before != value {
				t.Fatalf("threads differ: %s is %#x and %#x", line[1], before, value)
			}
			sets[line[1]] = value
		}
	}
	return sets
}

var capabilityLine = regexp.MustCompile(`(?m)^(Cap\w+):\t([0-9a-f]+)$`)
