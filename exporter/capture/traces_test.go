package capture

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// The captures that others made, beside the repository, and one that comes with
// gopacket. Their numbers of packets are those of an independent reader.
var traces = map[string]int{
	"pkt.TCP.synflood.spoofed.pcap":   37_841,
	"amp.UDP.bacnet.IOT.37810.pcapng": 9_617,
	"pcapplusplus-tls2.pcap":          7_451,
	"pcapplusplus-example2.pcap":      4_709,
	"mpls-6in6-broken.pcap.gz":        1_811,
	"cip.pcap":                        26_068,
}

// soak returns how often to do what a long run, TMA_SOAK=1 (make soak), does longer.
func soak(short, long int) int {
	if os.Getenv("TMA_SOAK") != "" {
		return long
	}
	return short
}

// forEachTrace runs a test with the frames of each capture.
func forEachTrace(t *testing.T, test func(t *testing.T, frames [][]byte)) {
	for name, packets := range traces {
		t.Run(name, func(t *testing.T) {
			frames := readTrace(t, tracePath(t, name))
			if len(frames) != packets {
				t.Fatalf("%d packets, want %d", len(frames), packets)
			}
			test(t, frames)
		})
	}
}

// tracePath finds a capture: in shared/data beside the repository, which holds for
// worktrees too, or in gopacket's module. In CI the captures have to be there.
func tracePath(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "data", name)
	if name == "cip.pcap" {
		path = filepath.Join(testutil.ModuleDir(t, "github.com/gopacket/gopacket"), "layers", "testdata", name)
	}
	_, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && os.Getenv("CI") != "true":
		t.Skipf("needs the capture %s", path)
	case err != nil:
		t.Fatal(err)
	}
	return path
}

// readTrace reads the Ethernet frames of a pcap or pcapng file, compressed or not.
func readTrace(t *testing.T, path string) [][]byte {
	t.Helper()
	file, err := os.Open(path)
	must(t, err)
	defer file.Close()
	stream := io.Reader(file)
	if strings.HasSuffix(path, ".gz") {
		stream, err = gzip.NewReader(file)
		must(t, err)
	}
	reader, err := openTrace(stream)
	must(t, err)
	if link := reader.LinkType(); link != layers.LinkTypeEthernet {
		t.Fatalf("%s has link type %v", path, link)
	}
	var frames [][]byte
	for {
		frame, _, err := reader.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return frames
		}
		must(t, err)
		frames = append(frames, frame)
	}
}

type traceReader interface {
	gopacket.PacketDataSource
	LinkType() layers.LinkType
}

// openTrace goes by the file's first bytes: one that is named pcapng isn't.
func openTrace(stream io.Reader) (traceReader, error) {
	buffered := bufio.NewReader(stream)
	magic, err := buffered.Peek(4)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(magic, []byte{0x0a, 0x0d, 0x0d, 0x0a}) {
		return pcapgo.NewNgReader(buffered, pcapgo.DefaultNgReaderOptions)
	}
	return pcapgo.NewReader(buffered)
}

// Every packet of the captures goes through the program, in both directions; after each
// few, every counter is compared with the oracle's.
func TestTraces(t *testing.T) {
	forEachTrace(t, func(t *testing.T, frames [][]byte) {
		c := newTestCapture(t, smallMemory)
		for _, direction := range both {
			for batch := range slices.Chunk(frames, 64) {
				var sightings []*sighting
				for _, frame := range batch {
					frame = runnable(frame[:min(len(frame), largest)], false)
					sightings = append(sightings, &sighting{data: frame, direction: direction})
				}
				c.see(t, sightings...)
			}
		}
	})
}

// The captures have what the oracle is to be tried with: keys of both families and
// reasons, so that a comparison can't succeed because nothing was compared.
func TestTracesHaveVariety(t *testing.T) {
	seen := map[string]int{}
	forEachTrace(t, func(t *testing.T, frames [][]byte) {
		for _, frame := range frames {
			v := judge(&sighting{data: frame, direction: flow.Ingress})
			switch {
			case v.reason != "":
				seen[v.reason]++
			case v.key.SourceAddr().Is4():
				seen["IPv4"]++
			default:
				seen["IPv6"]++
			}
		}
	})
	t.Log(seen)
	if t.Failed() || seen["IPv4"] == 0 {
		return // skipped
	}
	for _, what := range []string{"IPv6", "not_ip", "encapsulated", "malformed"} {
		if seen[what] == 0 {
			t.Errorf("no packet of the captures is %s", what)
		}
	}
}
