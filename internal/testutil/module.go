package testutil

import (
	"os/exec"
	"strings"
	"testing"
)

// ModuleDir returns where the sources of a module that the project depends on are, for
// the test data that come with it.
func ModuleDir(t testing.TB, module string) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatalf("find module %s: %v", module, err)
	}
	return strings.TrimSpace(string(out))
}
