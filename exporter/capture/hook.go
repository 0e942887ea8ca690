package capture

import (
	"fmt"
	"io"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// hook is where a program is attached; Close detaches it.
type hook interface {
	io.Closer
	kind() string
}

// tcx is a hook by a BPF link, which the kernel removes with the process.
type tcx struct{ link.Link }

func (tcx) kind() string { return "tcx" }

// attachHook attaches a program before all others: behind one that ends the chain,
// as a redirect does, it would miss packets.
func attachHook(program *ebpf.Program, index int, direction flow.Direction) (hook, error) {
	at := ebpf.AttachTCXIngress
	if direction == flow.Egress {
		at = ebpf.AttachTCXEgress
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: program, Attach: at, Anchor: link.Head()})
	if err != nil {
		return nil, fmt.Errorf("attach to tcx %s: %w", direction, err)
	}
	return tcx{l}, nil
}

// directDevices is DIRECT_DEVICES of bpf/maps.h.
func (k *kernel) directDevices() uint32 { return k.objects.Devices.MaxEntries() }

// announce tells the program the points of a device.
func (k *kernel) announce(d *device) error {
	m := k.objects.Devices
	if uint32(d.index) >= k.directDevices() {
		m = k.objects.DistantDevices
	}
	if err := m.Put(uint32(d.index), d.announcement()); err != nil {
		return fmt.Errorf("announce device %s to the program: %w", d.name, err)
	}
	return nil
}
