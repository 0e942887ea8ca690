package testutil

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
)

// childVariable names, in the environment of a child process, the test that it
// runs.
const childVariable = "TMA_TEST_IN_NAMESPACE"

// InNamespace runs a test in a process of its own that is in a new network
// namespace as a whole: code that starts goroutines, which may run on any thread,
// can't be moved there otherwise. What the test mounts ends with the process, too. It
// fails if the child does.
func InNamespace(t *testing.T, test func(*testing.T)) {
	t.Helper()
	if os.Getenv(childVariable) == t.Name() {
		test(t)
		return
	}
	n := Namespace(t)
	cmd := exec.Command(os.Args[0], "-test.v", "-test.run=^"+regexp.QuoteMeta(t.Name())+"$")
	cmd.Env = append(os.Environ(), childVariable+"="+t.Name())
	out, err := os.CreateTemp(t.TempDir(), "output")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	p, err := n.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		output, _ := os.ReadFile(out.Name())
		t.Fatalf("in the namespace: %v\n%s", err, output)
	}
	output, _ := os.ReadFile(out.Name())
	if bytes.Contains(output, []byte("--- SKIP: "+t.Name()+" ")) {
		t.Skipf("%s", output)
	}
	if testing.Verbose() {
		t.Logf("%s", output)
	}
}
