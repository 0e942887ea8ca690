package capture

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// A filter of ours is known by its handle, the letters "tma", and by its name,
// which also says whether TMA made the qdisc: a run that finds the filter of a
// killed one has to know.
const (
	filterHandle    = 0x746d61
	filterName      = "tma-exporter"
	filterNameQdisc = filterName + "+clsact"
)

// maxPriority is how far down the filter may be, where others have the first
// priorities with classifiers of another kind, which a BPF filter can't share.
const maxPriority = 16

// clsactParents are where a direction's filters are.
var clsactParents = [...]uint32{flow.Ingress: netlink.HANDLE_MIN_INGRESS, flow.Egress: netlink.HANDLE_MIN_EGRESS}

// clsact is a hook by a direct-action BPF filter of a clsact qdisc. The kernel
// doesn't remove it with the process.
type clsact struct {
	index     int
	direction flow.Direction
}

func (clsact) kind() string { return "clsact" }

func (h clsact) attached(index int) bool {
	filter, err := ownFilter(h.index, h.direction)
	return err == nil && filter != nil && index == h.index
}

// attachClsact attaches a program by a filter before those of others. If there is
// no clsact qdisc it makes one.
func attachClsact(program *ebpf.Program, index int, direction flow.Direction) (hook, error) {
	made, err := addClsact(index)
	if err != nil {
		return nil, fmt.Errorf("make the clsact qdisc: %w", err)
	}
	if err := addFilter(program, index, direction, made); err != nil {
		err = fmt.Errorf("attach to clsact %s: %w", direction, err)
		if made {
			err = errors.Join(err, removeClsact(index))
		}
		return nil, err
	}
	return clsact{index, direction}, nil
}

// keep does nothing: the kernel keeps filters anyhow.
func (clsact) keep() error { return nil }

// Close removes the filter, and the qdisc if TMA made it and nobody has a filter
// there. A device that is gone took both with it.
func (h clsact) Close() error {
	filter, err := ownFilter(h.index, h.direction)
	if err != nil || filter == nil {
		return err
	}
	if err := netlink.FilterDel(filter); err != nil && !vanished(err) {
		return fmt.Errorf("remove the clsact filter: %w", err)
	}
	if filter.Name != filterNameQdisc {
		return nil
	}
	return removeClsact(h.index)
}

// vanished says whether what was to be removed, or its device, is gone already.
func vanished(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT)
}

func clsactQdisc(index int) *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
}

// addClsact makes the qdisc unless there is one. The older ingress qdisc has the
// same place, and takes a filter for egress as one for ingress.
func addClsact(index int) (made bool, err error) {
	err = netlink.QdiscAdd(clsactQdisc(index))
	if !errors.Is(err, unix.EEXIST) {
		return err == nil, err
	}
	qdiscs, err := list(func() ([]netlink.Qdisc, error) { return netlink.QdiscList(deviceLink(index)) })
	if err != nil {
		return false, err
	}
	for _, q := range qdiscs {
		if q.Attrs().Parent == netlink.HANDLE_CLSACT && q.Type() != "clsact" {
			return false, fmt.Errorf("its place is taken by a qdisc of kind %s; remove that one", q.Type())
		}
	}
	return false, nil
}

// removeClsact removes the qdisc if it has no filters. The kernel can't do both at
// once: a filter that somebody adds in between goes, too.
func removeClsact(index int) error {
	for _, parent := range clsactParents {
		filters, err := filtersOf(index, parent)
		if err != nil || len(filters) > 0 {
			return err
		}
	}
	if err := netlink.QdiscDel(clsactQdisc(index)); err != nil && !vanished(err) {
		return fmt.Errorf("remove the clsact qdisc: %w", err)
	}
	return nil
}

// addFilter adds our filter as the first one, or replaces that of an earlier run,
// which the kernel does without a gap.
func addFilter(program *ebpf.Program, index int, direction flow.Direction, madeQdisc bool) error {
	var own [len(clsactParents)]*netlink.BpfFilter
	for d := range clsactParents {
		var err error
		if own[d], err = ownFilter(index, flow.Direction(d)); err != nil {
			return err
		}
		madeQdisc = madeQdisc || own[d] != nil && own[d].Name == filterNameQdisc
	}
	filter := &netlink.BpfFilter{
		FilterAttrs:  netlink.FilterAttrs{LinkIndex: index, Parent: clsactParents[direction], Handle: filterHandle, Protocol: unix.ETH_P_ALL},
		Fd:           program.FD(),
		Name:         filterName,
		DirectAction: true,
	}
	if madeQdisc {
		filter.Name = filterNameQdisc
	}
	if stale := own[direction]; stale != nil {
		filter.Priority = stale.Priority
		return netlink.FilterReplace(filter)
	}
	return addFirst(filter)
}

// addFirst adds a filter at the first priority that takes it. A priority is for
// one kind of classifier and one protocol, and its newest BPF filter runs first.
func addFirst(filter *netlink.BpfFilter) (err error) {
	for filter.Priority = 1; filter.Priority <= maxPriority; filter.Priority++ {
		err = netlink.FilterAdd(filter)
		if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return err
}

// ownFilter returns the filter that this or an earlier run attached, nil if there
// is none.
func ownFilter(index int, direction flow.Direction) (*netlink.BpfFilter, error) {
	filters, err := filtersOf(index, clsactParents[direction])
	for _, f := range filters {
		own, ok := f.(*netlink.BpfFilter)
		if ok && own.Handle == filterHandle && (own.Name == filterName || own.Name == filterNameQdisc) {
			return own, nil
		}
	}
	return nil, err
}

// filtersOf lists the filters of everybody, none if the device is gone.
func filtersOf(index int, parent uint32) ([]netlink.Filter, error) {
	filters, err := list(func() ([]netlink.Filter, error) { return netlink.FilterList(deviceLink(index), parent) })
	if err != nil && !vanished(err) {
		return nil, fmt.Errorf("list the clsact filters: %w", err)
	}
	return filters, nil
}

// deviceLink stands for a device where netlink wants one for its index.
func deviceLink(index int) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
}
