package main

import (
	"debug/elf"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// garbagePercent is by how much the heap grows before the collector runs. Most of the
// heap lives as long as the process, hasn't any pointers and costs the collector
// nothing: it may as well run ten times as often as by default.
const garbagePercent = 10

// spareMemory keeps garbage from taking as much memory as all windows do, and gives back
// what isn't needed any more once the program is loaded, of which the kernel's types
// (BTF) are most. Who has set GOGC knows better. What is allocated where is noted, in
// another MiB, only where profiles are served.
func spareMemory(profiles bool) {
	if !profiles {
		runtime.MemProfileRate = 0
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
	debug.FreeOSMemory()
	unmapProgram()
}

// unmapProgram lets go of the pages of the program's own file, of which a tenth is used
// again after the start: the kernel brings them back from its page cache, where all stay.
// Segments that are never written are the file's; a program that was moved when it was
// started (PIE) may have written all of them.
func unmapProgram() {
	program, err := elf.Open("/proc/self/exe")
	if err != nil {
		return
	}
	defer program.Close()
	if program.Type != elf.ET_EXEC {
		return
	}
	for _, p := range program.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_W == 0 {
			unmapUntilUsed(uintptr(p.Vaddr), p.Memsz)
		}
	}
}

func unmapUntilUsed(address uintptr, size uint64) {
	page := uintptr(os.Getpagesize())
	first, end := (address+page-1)&^(page-1), (address+uintptr(size))&^(page-1)
	if first < end {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, first, end-first, unix.MADV_DONTNEED)
	}
}
