package testutil

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// Capture is a file of Ethernet frames that others captured, with what is in it.
type Capture struct {
	Name    string
	Frames  int
	IPBytes uint64 // of frames with an IP header
}

// Captures are those in shared/data beside the repository, and one that comes with
// gopacket. The numbers are an independent reader's, but for the bytes of the broken
// one, of which it refuses a few packets more.
var Captures = []Capture{
	{"pkt.TCP.synflood.spoofed.pcap", 37_841, 2_270_460},
	{"amp.UDP.bacnet.IOT.37810.pcapng", 9_617, 2_834_693},
	{"pcapplusplus-tls2.pcap", 7_451, 2_734_637},
	{"pcapplusplus-example2.pcap", 4_709, 2_853_559},
	{"mpls-6in6-broken.pcap.gz", 1_811, 230_654},
	{"cip.pcap", 26_068, 2_975_574},
}

// Floods are those of Captures that are attacks from many sources.
var Floods = Captures[:2]

// ForEachCapture runs a test with each of Captures that is there.
func ForEachCapture(t *testing.T, test func(t *testing.T, c Capture)) {
	for _, c := range Captures {
		t.Run(c.Name, func(t *testing.T) { test(t, c) })
	}
}

// Read returns the frames. It skips the test where the capture is missing, which in
// CI fails it.
func (c Capture) Read(t testing.TB) [][]byte {
	t.Helper()
	path := c.path(t)
	file, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && os.Getenv("CI") != "true":
		t.Skipf("needs the capture %s", path)
	case err != nil:
		t.Fatal(err)
	}
	defer file.Close()
	frames, err := readFrames(file, strings.HasSuffix(path, ".gz"))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if len(frames) != c.Frames {
		t.Fatalf("%s has %d frames, want %d", path, len(frames), c.Frames)
	}
	return frames
}

// path is beside the repository, which holds for worktrees too, or in gopacket's
// module.
func (c Capture) path(t testing.TB) string {
	if c.Name == "cip.pcap" {
		return filepath.Join(ModuleDir(t, "github.com/gopacket/gopacket"), "layers", "testdata", c.Name)
	}
	return filepath.Join(repository(t), "..", "shared", "data", c.Name)
}

// repository is the nearest directory above that of the test with a go.mod.
func repository(t testing.TB) string {
	directory, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for parent := directory; ; parent = filepath.Dir(parent) {
		if _, err := os.Stat(filepath.Join(parent, "go.mod")); err == nil {
			return parent
		}
		if parent == filepath.Dir(parent) {
			return directory
		}
	}
}

// readFrames reads a pcap or pcapng file.
func readFrames(file io.Reader, compressed bool) (frames [][]byte, err error) {
	if compressed {
		if file, err = gzip.NewReader(file); err != nil {
			return nil, err
		}
	}
	reader, err := openCapture(file)
	if err != nil {
		return nil, err
	}
	if reader.LinkType() != layers.LinkTypeEthernet {
		return nil, errors.New("not a capture of Ethernet frames")
	}
	for {
		frame, _, err := reader.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return frames, nil
		}
		if err != nil {
			return nil, err
		}
		frames = append(frames, frame)
	}
}

type captureReader interface {
	gopacket.PacketDataSource
	LinkType() layers.LinkType
}

// openCapture goes by the file's first bytes: one that is named pcapng isn't.
func openCapture(file io.Reader) (captureReader, error) {
	buffered := bufio.NewReader(file)
	magic, err := buffered.Peek(4)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(magic, []byte{0x0a, 0x0d, 0x0d, 0x0a}) {
		return pcapgo.NewNgReader(buffered, pcapgo.DefaultNgReaderOptions)
	}
	return pcapgo.NewReader(buffered)
}

// Packet is an IP packet by its outermost IP header.
type Packet struct {
	flow.Key
	Bytes uint64 // of the frame, as interfaces count
}

// ReadPackets returns the IP packets of the capture, whatever they are wrapped in, as
// gopacket reads them: later fragments and packets that are broken off have no ports.
func (c Capture) ReadPackets(t testing.TB) []Packet {
	t.Helper()
	var packets []Packet
	var sum uint64
	for _, frame := range c.Read(t) {
		if p, ok := packetOf(frame); ok {
			p.Bytes = uint64(len(frame))
			packets = append(packets, p)
			sum += p.Bytes
		}
	}
	if sum != c.IPBytes {
		t.Fatalf("%s has %d IP bytes, want %d", c.Name, sum, c.IPBytes)
	}
	return packets
}

func packetOf(frame []byte) (p Packet, ok bool) {
	for _, layer := range gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy).Layers() {
		switch l := layer.(type) {
		case *layers.IPv4:
			if ok {
				return p, true
			}
			p.Source, p.Destination = mapped(l.SrcIP), mapped(l.DstIP)
			p.Protocol, ok = uint8(l.Protocol), true
		case *layers.IPv6:
			if ok {
				return p, true
			}
			p.Source, p.Destination = mapped(l.SrcIP), mapped(l.DstIP)
			p.Protocol, ok = uint8(l.NextHeader), true
		case *layers.TCP:
			p.Protocol, p.SourcePort, p.DestinationPort = flow.ProtocolTCP, uint16(l.SrcPort), uint16(l.DstPort)
			return p, ok
		case *layers.UDP:
			p.Protocol, p.SourcePort, p.DestinationPort = flow.ProtocolUDP, uint16(l.SrcPort), uint16(l.DstPort)
			return p, ok
		}
	}
	return p, ok
}

func mapped(ip []byte) [16]byte {
	address, _ := netip.AddrFromSlice(ip)
	return address.As16()
}
