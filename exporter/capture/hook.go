package capture

import (
	"errors"
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
	// attached tells whether the program still sees the packets of the device: it
	// doesn't if the device went to another namespace, or somebody removed it.
	attached(index int) bool
}

// attachHook attaches a program by tcx, or by clsact where the kernel has no tcx
// (it came with Linux 6.6) or clsact is wanted.
func attachHook(program *ebpf.Program, index int, direction flow.Direction, clsactOnly bool) (hook, error) {
	if clsactOnly {
		return attachClsact(program, index, direction)
	}
	h, err := attachTCX(program, index, direction)
	if errors.Is(err, ebpf.ErrNotSupported) {
		return attachClsact(program, index, direction)
	}
	return h, err
}

// tcx is a hook by a BPF link, which the kernel removes with the process.
type tcx struct{ link.Link }

func (tcx) kind() string { return "tcx" }

func (h tcx) attached(index int) bool {
	info, err := h.Info()
	return err == nil && info.TCX() != nil && int(info.TCX().Ifindex) == index
}

// attachTCX attaches a program before all others: behind one that ends the chain,
// as a redirect does, it would miss packets.
func attachTCX(program *ebpf.Program, index int, direction flow.Direction) (hook, error) {
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
