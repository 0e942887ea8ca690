package network

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// offloads are the settings by which a device sees other packets than those on
// the wire (segmentation, aggregation) or no true checksums.
var offloads = []struct {
	name    string
	command uint32
	on      uint32
}{
	{"generic receive offload", unix.ETHTOOL_SGRO, 1},
	{"TCP segmentation offload", unix.ETHTOOL_STSO, 1},
	{"generic segmentation offload", unix.ETHTOOL_SGSO, 1},
	{"transmit checksums", unix.ETHTOOL_STXCSUM, 1},
	{"receive checksums", unix.ETHTOOL_SRXCSUM, 1},
	{"scatter-gather", unix.ETHTOOL_SSG, 1},
	{"VLAN tags in metadata", unix.ETHTOOL_SFLAGS, flagTransmitVLAN | flagReceiveVLAN},
}

// Flags of ETHTOOL_SFLAGS (linux/ethtool.h, ETH_FLAG_*).
const (
	flagTransmitVLAN = 1 << 7
	flagReceiveVLAN  = 1 << 8
)

// offloadsOff turns the device's offloads off. It runs in its namespace.
func offloadsOff(device string) error { return SetOffloads(device, false) }

// SetOffloads turns all offloads of a device of the calling thread's namespace on or
// off.
func SetOffloads(device string, on bool) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket for ethtool: %w", err)
	}
	defer unix.Close(socket)
	for _, o := range offloads {
		value := uint32(0)
		if on {
			value = o.on
		}
		if err := ethtoolSet(socket, device, o.command, value); err != nil {
			return fmt.Errorf("%s: set %s: %w", device, o.name, err)
		}
	}
	return nil
}

// ethtoolValue is struct ethtool_value of linux/ethtool.h.
type ethtoolValue struct{ command, data uint32 }

// ethtoolRequest is struct ifreq of linux/if.h as SIOCETHTOOL reads it.
type ethtoolRequest struct {
	name [unix.IFNAMSIZ]byte
	data *ethtoolValue
	_    [16]byte // the rest of the C structure's union
}

func ethtoolSet(socket int, device string, command, value uint32) error {
	request := ethtoolRequest{data: &ethtoolValue{command, value}}
	copy(request.name[:unix.IFNAMSIZ-1], device)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return errno
	}
	return nil
}
