package demo

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/traffic-monitor-agent/tma/internal/netns"
)

// CheckRequirements says all that the demo would fail for on this machine, and
// what to do about it. It tries things out in a namespace of its own.
func CheckRequirements(c Configuration) error {
	var missing []error
	for _, name := range []string{exporterProgram, aggregatorProgram, trafficProgram} {
		if _, err := exec.LookPath(c.program(name)); err != nil {
			missing = append(missing, fmt.Errorf("%s is missing: run `make build`", c.program(name)))
		}
	}
	return errors.Join(append(missing, CheckPrivileges())...)
}

// CheckPrivileges says what this machine lacks for the lab network and for
// attaching to its devices.
func CheckPrivileges() error {
	if os.Geteuid() != 0 {
		return errors.New("the lab makes network namespaces and loads BPF programs: run as root")
	}
	probe, err := netns.New()
	if err != nil {
		return fmt.Errorf("network namespaces are missing: %w; use a kernel with CONFIG_NET_NS, and in a container grant CAP_SYS_ADMIN", err)
	}
	defer probe.Close()
	return probe.Do(func() error { return errors.Join(checkDevices(), checkHook()) })
}

func checkDevices() error {
	var missing []error
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth0"}, PeerName: "veth1"}); err != nil {
		missing = append(missing, fmt.Errorf("veth devices are missing: %w; load the module (modprobe veth) or grant CAP_NET_ADMIN", err))
	}
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "bridge0"}}); err != nil {
		missing = append(missing, fmt.Errorf("bridge devices are missing: %w; load the module (modprobe bridge) or grant CAP_NET_ADMIN", err))
	}
	return errors.Join(missing...)
}

// checkHook loads a program that does nothing and attaches it to lo.
func checkHook() error {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		return fmt.Errorf("BPF programs can't be loaded: %w; use a kernel with CONFIG_BPF_SYSCALL, grant CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, and leave kernel lockdown", err)
	}
	defer program.Close()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	attached, tcxErr := link.AttachTCX(link.TCXOptions{Interface: lo.Attrs().Index, Program: program, Attach: ebpf.AttachTCXIngress})
	if tcxErr == nil {
		return attached.Close()
	}
	clsact := &netlink.GenericQdisc{QdiscType: "clsact", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: lo.Attrs().Index, Parent: netlink.HANDLE_CLSACT, Handle: netlink.MakeHandle(0xffff, 0),
	}}
	if err := netlink.QdiscAdd(clsact); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("there is neither TCX (%w) nor clsact (%w) to attach to: use Linux 6.6 or later, or one with CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF", tcxErr, err)
	}
	return nil
}
