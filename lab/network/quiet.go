package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
)

// quietSysctls keep a namespace from sending packets of its own accord. They
// are set before there are devices, which take over the defaults.
var quietSysctls = map[string]string{
	"net/ipv4/conf/default/rp_filter":            "0",
	"net/ipv4/conf/all/rp_filter":                "0",
	"net/ipv4/conf/default/send_redirects":       "0",
	"net/ipv4/conf/all/send_redirects":           "0",
	"net/ipv6/conf/default/accept_dad":           "0",
	"net/ipv6/conf/default/accept_ra":            "0",
	"net/ipv6/conf/default/router_solicitations": "0",
	// No link-local addresses.
	"net/ipv6/conf/default/addr_gen_mode": "1",
	// A multicast listener report is repeated after 10 ms, not a second later.
	"net/ipv6/conf/default/mldv2_unsolicited_report_interval": "10",
}

func setQuiet() error { return setSysctls(quietSysctls) }

// setSysctls writes settings of the calling thread's namespace; keys are paths
// under /proc/sys.
func setSysctls(settings map[string]string) error {
	for key, value := range settings {
		if err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0); err != nil {
			return fmt.Errorf("set a sysctl: %w", err)
		}
	}
	return nil
}

// The limits of waitQuiet.
const (
	quietFor    = 50 * time.Millisecond
	quietWithin = 5 * time.Second
)

// waitQuiet waits until every veth of the calling thread's namespace is up
// and none has sent for a while: the kernel may bring a link up a second late,
// and the last packets of the set-up, reports of multicast groups, leave some
// milliseconds after that.
func waitQuiet() error {
	deadline := time.Now().Add(quietWithin)
	last, since := uint64(0), time.Now()
	for time.Now().Before(deadline) {
		ready, sent, err := deviceState()
		if err != nil {
			return err
		}
		if !ready || sent != last {
			last, since = sent, time.Now()
		}
		if time.Since(since) >= quietFor {
			return nil
		}
		time.Sleep(quietFor / 10)
	}
	return errors.New("the devices don't come up or don't stop sending")
}

// deviceState says whether all veths of the calling thread's
// namespace are up, and how many packets they have sent.
func deviceState() (ready bool, sent uint64, err error) {
	links, err := netlink.LinkList()
	if err != nil {
		return false, 0, fmt.Errorf("list devices: %w", err)
	}
	ready = true
	for _, link := range links {
		if link.Type() != vethType {
			continue
		}
		attributes := link.Attrs()
		ready = ready && attributes.OperState == netlink.OperUp
		sent += attributes.Statistics.TxPackets
	}
	return ready, sent, nil
}
