package capture

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// hook is where a program is attached; Close detaches it.
type hook interface {
	io.Closer
	// keep gives the hook up without detaching it, where it is pinned or stays
	// by itself.
	keep() error
	kind() string
	// attached tells whether the program still sees the packets of the device: it
	// doesn't if the device went to another namespace, or somebody removed it.
	attached(index int) bool
}

// attachHook attaches a program by tcx, or by clsact where the kernel has no tcx
// (it came with Linux 6.6) or clsact is wanted.
func attachHook(program *ebpf.Program, index int, direction flow.Direction, clsactOnly bool, pins *pins) (hook, error) {
	if clsactOnly {
		return attachClsact(program, index, direction)
	}
	h, err := attachTCX(program, index, direction, pins)
	if errors.Is(err, ebpf.ErrNotSupported) {
		return attachClsact(program, index, direction)
	}
	return h, err
}

// tcx is a hook by a BPF link, which the kernel removes with the process unless it
// is pinned.
type tcx struct {
	link.Link
	pinned bool
}

func (tcx) kind() string { return "tcx" }

func (h tcx) attached(index int) bool {
	info, err := h.Info()
	return err == nil && info.TCX() != nil && int(info.TCX().Ifindex) == index
}

func (h tcx) Close() error {
	if !h.pinned {
		return h.Link.Close()
	}
	return errors.Join(h.Unpin(), h.Link.Close())
}

func (h tcx) keep() error { return h.Link.Close() }

// attachTCX attaches a program, and pins the link if there are pins. A pinned link of
// an earlier run gets the program in place of its old one, without a gap.
func attachTCX(program *ebpf.Program, index int, direction flow.Direction, pins *pins) (hook, error) {
	if pins == nil {
		l, err := linkTCX(program, index, direction)
		return tcx{l, false}, err
	}
	file := pins.link(index, direction)
	if h, err := adoptTCX(program, index, file); err != nil || h != nil {
		return h, err
	}
	l, err := linkTCX(program, index, direction)
	if err != nil {
		return nil, err
	}
	if err := l.Pin(file); err != nil {
		return nil, errors.Join(fmt.Errorf("pin the link to tcx %s: %w", direction, err), l.Close())
	}
	return tcx{l, true}, nil
}

// linkTCX attaches a program before all others: behind one that ends the chain, as a
// redirect does, it would miss packets.
func linkTCX(program *ebpf.Program, index int, direction flow.Direction) (link.Link, error) {
	at := ebpf.AttachTCXIngress
	if direction == flow.Egress {
		at = ebpf.AttachTCXEgress
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: program, Attach: at, Anchor: link.Head()})
	if err != nil {
		return nil, fmt.Errorf("attach to tcx %s: %w", direction, err)
	}
	return l, nil
}

// adoptTCX takes a pinned link over, nil if there is none. One whose device is gone,
// so that another has its index now, is removed.
func adoptTCX(program *ebpf.Program, index int, file string) (hook, error) {
	l, err := link.LoadPinnedLink(file, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the pinned link %s: %w", file, err)
	}
	h := tcx{l, true}
	if !h.attached(index) {
		return nil, h.Close()
	}
	if err := l.Update(program); err != nil {
		return nil, errors.Join(fmt.Errorf("replace the program of the pinned link %s: %w", file, err), l.Close())
	}
	return h, nil
}
