package api

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// cpuSamples is how many are kept, and cpuInterval how far they are apart at least:
// the share is that of the last minute.
const (
	cpuSamples  = 61
	cpuInterval = time.Second
)

// CPU measures what the process takes of the machine. Safe for concurrent use.
type CPU struct {
	mu      sync.Mutex
	samples []cpuSample // oldest first
}

type cpuSample struct {
	at   time.Time
	used time.Duration // user and system, by all threads since the process began
}

// Sample notes the time used up to now, if the last sample is old enough. It is called
// at the end of each epoch.
func (c *CPU) Sample(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.samples); n > 0 && now.Sub(c.samples[n-1].at) < cpuInterval {
		return
	}
	if len(c.samples) == cpuSamples {
		copy(c.samples, c.samples[1:])
		c.samples = c.samples[:cpuSamples-1]
	}
	c.samples = append(c.samples, cpuSample{now, processTime()})
}

// Share returns how many CPUs were busy with the process on average, and over which
// time: up to the last minute, or less after the start.
func (c *CPU) Share(now time.Time) (share float64, over time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.samples) == 0 || !now.After(c.samples[0].at) {
		return 0, 0
	}
	over = now.Sub(c.samples[0].at)
	return float64(processTime()-c.samples[0].used) / float64(over), over
}

func processTime() time.Duration {
	var usage unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &usage) != nil {
		return 0 // it can't fail with this argument
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
