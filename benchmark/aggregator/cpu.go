package main

import "golang.org/x/sys/unix"

// cpuSeconds is the CPU time of this process so far, the garbage collector's included.
func cpuSeconds() float64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		panic(err) // the arguments are constants
	}
	seconds := func(t unix.Timeval) float64 { return float64(t.Nano()) / 1e9 }
	return seconds(usage.Utime) + seconds(usage.Stime)
}
