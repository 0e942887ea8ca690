package endtoend

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// run runs a program that must fail, and returns its exit code and what it wrote
// to standard error.
func run(t *testing.T, cmd *exec.Cmd) (code int, stderr string) {
	t.Helper()
	var b strings.Builder
	cmd.Stderr = &b
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("%v ended with %v, want an exit code", cmd, err)
	}
	return exit.ExitCode(), b.String()
}

// A wrong configuration ends with exit code 1 and one line that names the file,
// the key and what is allowed.
func TestWrongConfiguration(t *testing.T) {
	tests := map[string]struct{ program, text, key string }{
		"exporter, unknown key":       {"tma-exporter", "capture: {epok: 1s}", "capture"},
		"exporter, bad duration":      {"tma-exporter", "capture: {epoch: soon}", "capture.epoch"},
		"exporter, bad regexp":        {"tma-exporter", "capture: {include: '('}", "capture.include"},
		"aggregator, unknown key":     {"tma-aggregator", "scrape_config: []", ""},
		"aggregator, bad duration":    {"tma-aggregator", "retention: soon", "retention"},
		"aggregator, bad regexp":      {"tma-aggregator", "scrape_configs: [{job_name: x, relabel_configs: [{regex: '('}]}]", "scrape_configs[0].relabel_configs[0].regex"},
		"aggregator, unknown job key": {"tma-aggregator", "scrape_configs: [{job: x}]", "scrape_configs[0]"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "wrong.yml")
			must(t, os.WriteFile(file, []byte(test.text), 0o600))
			code, stderr := run(t, exec.Command(filepath.Join(programs, test.program), "--config.file="+file))
			if code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			if strings.Count(strings.TrimSuffix(stderr, "\n"), "\n") != 0 {
				t.Errorf("more than one line:\n%s", stderr)
			}
			for _, part := range []string{file, test.key, "allowed: "} {
				if !strings.Contains(stderr, part) {
					t.Errorf("%q doesn't name %q", stderr, part)
				}
			}
		})
	}
}

// The same for flags.
func TestWrongFlag(t *testing.T) {
	for flag, want := range map[string]string{"--capture.epoch=soon": "capture.epoch", "--capture.include=(": "capture.include"} {
		code, stderr := run(t, exec.Command(filepath.Join(programs, "tma-exporter"), flag))
		if code != 1 || !strings.Contains(stderr, want) || !strings.Contains(stderr, "allowed: ") {
			t.Errorf("%s: exit code %d, %q", flag, code, stderr)
		}
	}
}

// Without privileges the exporter names the capabilities that it lacks.
func TestMissingCapability(t *testing.T) {
	testutil.RequireRoot(t)
	const nobody = 65534
	directory, err := os.MkdirTemp("/tmp", "tma-nobody") // nobody can't enter t.TempDir
	must(t, err)
	defer os.RemoveAll(directory)
	must(t, os.Chmod(directory, 0o755))
	program := filepath.Join(directory, "tma-exporter")
	must(t, exec.Command("cp", filepath.Join(programs, "tma-exporter"), program).Run())
	cmd := exec.Command(program, "--web.listen-address=127.0.0.1:0")
	cmd.Dir = directory
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	code, stderr := run(t, cmd)
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	for _, capability := range []string{"CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"} {
		if !strings.Contains(stderr, capability) {
			t.Errorf("%q doesn't name %s", stderr, capability)
		}
	}
}
