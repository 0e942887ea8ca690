package main

import (
	"os"
	"runtime/debug"
)

// collectAt is how much the Go heap grows, in percent, before it is collected. Most of it
// lives as long as the exporter, and little is allocated an epoch, so that collecting
// early is cheap, while the usual 100 would double what kept epochs take.
const collectAt = 25

// spareMemory makes the runtime give back what isn't needed any more once the program is
// loaded, of which the kernel's types (BTF) are most. The variable GOGC goes before it.
func spareMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	debug.FreeOSMemory()
}
