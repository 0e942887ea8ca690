package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc/PID/stat (USER_HZ), on every architecture that TMA
// runs on.
const tick = 10 * time.Millisecond

// processorTime is what a process has used, of all its threads.
type processorTime struct{ user, system time.Duration }

// processorTimeOf reads it from /proc/PID/stat (proc_pid_stat(5)).
func processorTimeOf(pid int) (t processorTime, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return t, err
	}
	// The name, in parentheses, may have anything in it; behind it comes field 3.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	const state, user, system = 3, 14, 15
	for field, to := range map[int]*time.Duration{user: &t.user, system: &t.system} {
		ticks, err := strconv.ParseInt(string(fields[field-state]), 10, 64)
		if err != nil {
			return t, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		*to = time.Duration(ticks) * tick
	}
	return t, nil
}

// memory is what a process has in memory, in bytes.
type memory struct {
	Resident  uint64 `json:"resident"`
	Anonymous uint64 `json:"anonymous"` // of it: the Go heap, stacks, the tables of package fold
	Maps      uint64 `json:"maps"`      // of it: BPF maps; the ring buffer's data are mapped twice
	Once      uint64 `json:"once"`      // Resident, what is mapped twice counted once
}

// memoryOf adds up the mappings of /proc/PID/smaps (proc_pid_smaps(5)).
func memoryOf(pid int) (m memory, err error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return m, err
	}
	defer file.Close()
	var bpf bool
	var proportional uint64
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if !strings.HasSuffix(fields[0], ":") { // a mapping begins
			bpf = strings.HasSuffix(lines.Text(), "anon_inode:bpf-map")
			continue
		}
		if len(fields) != 3 || fields[2] != "kB" {
			continue
		}
		kibibytes, err := strconv.ParseUint(fields[1], 10, 64)
		if err != nil {
			return m, fmt.Errorf("/proc/%d/smaps: %w", pid, err)
		}
		bytes := kibibytes << 10
		switch fields[0] {
		case "Rss:":
			m.Resident += bytes
			if bpf {
				m.Maps += bytes
			}
		case "Pss:":
			proportional += bytes
		case "Anonymous:":
			m.Anonymous += bytes
		}
	}
	m.Once = proportional
	return m, nil
}

// peakOf is the most that a process ever had in memory, in bytes.
func peakOf(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, "VmHWM:"); found {
			kibibytes, err := strconv.ParseUint(strings.Fields(value)[0], 10, 64)
			return kibibytes << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no VmHWM", pid)
}
