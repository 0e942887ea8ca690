package capture

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// CapabilityError says which Linux capabilities the process lacks.
type CapabilityError struct{ Missing []string }

// Error names the capabilities and how they are granted.
func (e *CapabilityError) Error() string {
	list := strings.Join(e.Missing, ", ")
	return fmt.Sprintf("missing capability: %s; run as root, or grant it: systemd: AmbientCapabilities=%s, docker: --cap-add",
		list, strings.ReplaceAll(list, ",", ""))
}

// needed are the capabilities that loading and attaching take. CAP_SYS_ADMIN
// stands for the first two.
var needed = []struct {
	name string
	bit  uint
	root bool // included in CAP_SYS_ADMIN
}{
	{"CAP_BPF", unix.CAP_BPF, true},
	{"CAP_PERFMON", unix.CAP_PERFMON, true},
	{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN, false},
}

// missingCapabilities lists what the calling thread lacks, nothing if that can't
// be found out.
func missingCapabilities() []string {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return nil
	}
	effective := uint64(data[1].Effective)<<32 | uint64(data[0].Effective)
	has := func(bit uint) bool { return effective>>bit&1 == 1 }
	var missing []string
	for _, capability := range needed {
		if !has(capability.bit) && !(capability.root && has(unix.CAP_SYS_ADMIN)) {
			missing = append(missing, capability.name)
		}
	}
	return missing
}

// retained are the capabilities that a capture uses while it runs: CAP_NET_ADMIN attaches
// to new interfaces, and without CAP_BPF a kernel before 6.4 refuses every bpf(2) where
// kernel.unprivileged_bpf_disabled is set. The others are root's alone: to read and write
// files of other users as before, and to listen on a low port.
var retained = []cap.Value{cap.BPF, cap.NET_ADMIN, cap.DAC_OVERRIDE, cap.NET_BIND_SERVICE}

// DropPrivileges gives up for good, on all threads, the capabilities that were needed to
// load the program alone: of those that a service has CAP_PERFMON, of root's nearly all.
func DropPrivileges() error {
	before, after := cap.GetProc(), cap.NewSet()
	keep := func(v cap.Value) (bool, error) {
		permitted, err := before.GetFlag(cap.Permitted, v)
		if err != nil || !permitted {
			return false, err
		}
		return true, errors.Join(after.SetFlag(cap.Permitted, true, v), after.SetFlag(cap.Effective, true, v))
	}
	for _, v := range retained {
		kept, err := keep(v)
		if v == cap.BPF && err == nil && !kept {
			_, err = keep(cap.SYS_ADMIN) // what had to do for it
		}
		if err != nil {
			return fmt.Errorf("look at the capabilities: %w", err)
		}
	}
	if err := after.SetProc(); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}
