package main

import (
	"os"
	"runtime/debug"
)

// garbagePercent is by how much the heap grows before the collector runs. Most of the
// heap lives as long as the process, hasn't any pointers and costs the collector
// nothing: it may as well run four times as often as by default.
const garbagePercent = 25

// limitGarbage keeps garbage from taking as much memory as all windows do. Who has set
// GOGC knows better.
func limitGarbage() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
}
