package capture

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/traffic-monitor-agent/tma/bpf"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// What every kernel's verifier allows a program: instructions that it walks through
// on all paths (BPF_COMPLEXITY_LIMIT_INSNS) and bytes of stack (MAX_BPF_STACK).
const (
	verifierInstructions = 1_000_000
	verifierStack        = 512
)

// At least half of the instructions stay free, so that the program also loads where a
// verifier counts a little worse, and all functions together keep within the stack that
// the verifier allows a chain of calls, of which no chain has all of them. The lines in the log
// become the table of docs/kernel-support.md (lab/kernels).
func TestVerifier(t *testing.T) {
	testutil.RequireRoot(t)
	layout, err := newLayout(16<<20, 2)
	must(t, err)
	spec, err := configuredObject(layout, randomSeed())
	must(t, err)
	options := ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}}
	var objects bpf.CaptureObjects
	must(t, spec.LoadAndAssign(&objects, &options))
	t.Cleanup(func() { must(t, objects.Close()) })
	for _, program := range []*ebpf.Program{objects.CaptureIngress, objects.CaptureEgress} {
		checkVerifier(t, program)
	}
}

func checkVerifier(t *testing.T, program *ebpf.Program) {
	t.Helper()
	info, err := program.Info()
	must(t, err)
	instructions, ok := info.VerifiedInstructions()
	if !ok {
		t.Fatal("the kernel doesn't say how many instructions it verified")
	}
	translated, err := info.TranslatedSize()
	must(t, err)
	native, err := info.JitedSize()
	must(t, err)
	stack := stackDepth(t, program.VerifierLog)
	name := program.String()
	if parts := regexp.MustCompile(`\((\w+)\)`).FindStringSubmatch(name); parts != nil {
		name = parts[1]
	}
	if instructions > verifierInstructions/2 {
		t.Errorf("%s: %d instructions were verified, more than half of %d", name, instructions, verifierInstructions)
	}
	if stack > verifierStack {
		t.Errorf("%s: %d bytes of stack, of %d", name, stack, verifierStack)
	}
	fmt.Printf("verifier: program=%s instructions=%d stack=%d size=%d native=%d\n", name, instructions, stack, translated, native)
}

// stackDepth is the greatest depth that a chain of functions can reach, at worst the
// sum of all: the log's "stack depth 96+8" lists each function's.
func stackDepth(t *testing.T, log string) int {
	t.Helper()
	match := regexp.MustCompile(`stack depth ([0-9+]+)`).FindStringSubmatch(log)
	if match == nil {
		t.Fatalf("the verifier's log has no stack depth:\n%s", log)
	}
	sum := 0
	for _, each := range strings.Split(match[1], "+") {
		n, err := strconv.Atoi(each)
		must(t, err)
		sum += n
	}
	return sum
}
