package capture

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
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
