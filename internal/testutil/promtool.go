package testutil

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// CheckMetrics fails the test if promtool has anything to say about a scrape in the
// text format. It skips the test where there is no promtool, which in CI fails it.
func CheckMetrics(t testing.TB, scrape string) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no promtool: install the package prometheus")
		}
		t.Skip("no promtool: install the package prometheus")
	}
	command := exec.Command("promtool", "check", "metrics")
	command.Stdin = strings.NewReader(scrape)
	if output, err := command.CombinedOutput(); err != nil || len(output) != 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, output)
	}
}
