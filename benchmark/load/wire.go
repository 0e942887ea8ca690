package load

import (
	"errors"
	"fmt"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"

	"github.com/traffic-monitor-agent/tma/benchmark/capture/comparison"
	"github.com/traffic-monitor-agent/tma/internal/netns"
)

// DeviceName is the end of a wire where packets come in, senderName the other end.
const (
	DeviceName = "measured"
	senderName = "sender"
)

// Wire is a wire between two devices in a namespace of its own: packets are sent on
// one end, pass what is attached at the other end's ingress hook, and are dropped
// right behind it.
type Wire struct {
	Namespace *netns.Namespace
	Device    *net.Interface // where packets come in
	Sender    *Sender        // on the other end
	program   *ebpf.Program
	drop      link.Link
}

// NewWire makes a wire. It ends with the process, too.
func NewWire() (*Wire, error) {
	n, err := netns.New()
	if err != nil {
		return nil, err
	}
	w := &Wire{Namespace: n}
	if err := n.Do(w.build); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (w *Wire) build() error {
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: senderName}, PeerName: DeviceName}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("add the wire: %w", err)
	}
	for _, name := range []string{senderName, DeviceName} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := errors.Join(netlink.LinkSetIP6AddrGenMode(l, nl.IN6_ADDR_GEN_MODE_NONE), netlink.LinkSetUp(l)); err != nil {
			return err
		}
	}
	end, err := net.InterfaceByName(senderName)
	if err != nil {
		return err
	}
	if w.Sender, err = newSender(end); err != nil {
		return err
	}
	if w.Device, err = net.InterfaceByName(DeviceName); err != nil {
		return err
	}
	return w.attachDrop()
}

func (w *Wire) attachDrop() error {
	spec, err := comparison.LoadComparison()
	if err != nil {
		return err
	}
	if w.program, err = ebpf.NewProgram(spec.Programs[comparison.ComparisonProgDrop]); err != nil {
		return fmt.Errorf("load the program that drops: %w", err)
	}
	w.drop, err = link.AttachTCX(link.TCXOptions{
		Interface: w.Device.Index, Program: w.program, Attach: ebpf.AttachTCXIngress,
	})
	return err
}

// Close takes the wire down.
func (w *Wire) Close() error {
	var all []error
	if w.drop != nil {
		all = append(all, w.drop.Close())
	}
	if w.Sender != nil {
		all = append(all, w.Sender.close())
	}
	return errors.Join(append(all, w.program.Close(), w.Namespace.Close())...)
}
