package capture

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// preemptRT says whether the kernel was built with PREEMPT_RT, which it states in
// the version that `uname -v` prints. There the program protects what it counts in
// by itself (bpf/section.h).
func preemptRT() (bool, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return false, err
	}
	return bytes.Contains(name.Version[:], []byte("PREEMPT_RT")), nil
}
