// Package testutil holds what tests of several packages share: the demand for
// root, namespaces that end with the test, and waiting for a condition.
package testutil

import (
	"os"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/netns"
)

// RequireRoot skips the test if it doesn't run as root; in CI, where nothing
// may be skipped, it fails it instead.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	const message = "this test makes network namespaces and needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_NET_RAW)"
	if os.Getenv("CI") == "true" {
		t.Fatal(message)
	}
	t.Skip(message)
}

// Namespace makes a network namespace without a name that ends with the test.
func Namespace(t testing.TB) *netns.Namespace {
	t.Helper()
	RequireRoot(t)
	n, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// Eventually polls the condition until it is true, and fails the test if that
// takes longer than the limit.
func Eventually(t testing.TB, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}
