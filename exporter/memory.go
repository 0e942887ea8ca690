package main

import (
	"os"
	"runtime/debug"
)

// garbagePercent is by how much the heap grows before the collector runs. Most of the
// heap lives as long as the process, hasn't any pointers and costs the collector
// nothing: it may as well run four times as often as by default.
const garbagePercent = 25

// spareMemory keeps garbage from taking as much memory as all windows do, and gives back
// what isn't needed any more once the program is loaded, of which the kernel's types
// (BTF) are most. Who has set GOGC knows better.
func spareMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
	debug.FreeOSMemory()
}
