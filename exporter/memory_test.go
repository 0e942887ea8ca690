package main

import (
	"runtime/debug"
	"testing"
)

func TestGarbageIsLimitedUnlessAsked(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(200))
	for _, test := range []struct {
		environment string
		want        int
	}{{"70", 200}, {"", garbagePercent}} {
		t.Setenv("GOGC", test.environment)
		spareMemory()
		got := debug.SetGCPercent(200)
		if got != test.want {
			t.Errorf("GOGC=%q: %d %%, want %d %%", test.environment, got, test.want)
		}
	}
}
