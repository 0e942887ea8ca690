package window

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/fold"
)

// floods are captures of attacks that others made, beside the repository (which
// holds for worktrees too), with the packets that an independent reader counts.
var floods = map[string]int{
	"pkt.TCP.synflood.spoofed.pcap":   37_841,
	"amp.UDP.bacnet.IOT.37810.pcapng": 9_617,
}

// readFlood returns a record for each IPv4 packet of a capture.
func readFlood(t *testing.T, name string) []fold.Record {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "data", name)
	file, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && os.Getenv("CI") != "true":
		t.Skipf("needs the capture %s", path)
	case err != nil:
		t.Fatal(err)
	}
	defer file.Close()
	source := openFlood(t, file)
	var records []fold.Record
	for {
		frame, _, err := source.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return records
		}
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, recordOf(t, frame))
	}
}

// openFlood goes by the file's first bytes: one that is named pcapng isn't.
func openFlood(t *testing.T, file io.Reader) gopacket.PacketDataSource {
	t.Helper()
	buffered := bufio.NewReader(file)
	magic, err := buffered.Peek(4)
	if err != nil {
		t.Fatal(err)
	}
	var source gopacket.PacketDataSource
	if bytes.Equal(magic, []byte{0x0a, 0x0d, 0x0d, 0x0a}) {
		source, err = pcapgo.NewNgReader(buffered, pcapgo.DefaultNgReaderOptions)
	} else {
		source, err = pcapgo.NewReader(buffered)
	}
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// recordOf is what the kernel program would hand over of a packet. The floods
// consist of UDP, its fragments, and TCP over IPv4.
func recordOf(t *testing.T, frame []byte) fold.Record {
	t.Helper()
	packet := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	ip, ok := packet.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	if !ok {
		t.Fatalf("not an IPv4 packet: %v", packet)
	}
	r := fold.Record{Point: 2, Count: epoch.Count{Packets: 1, Bytes: uint64(ip.Length)}}
	r.Protocol = uint8(ip.Protocol)
	r.Source, r.Destination = netip.AddrFrom4([4]byte(ip.SrcIP.To4())).As16(), netip.AddrFrom4([4]byte(ip.DstIP.To4())).As16()
	switch transport := packet.TransportLayer().(type) {
	case *layers.TCP:
		r.SourcePort, r.DestinationPort = uint16(transport.SrcPort), uint16(transport.DstPort)
	case *layers.UDP:
		r.SourcePort, r.DestinationPort = uint16(transport.SrcPort), uint16(transport.DstPort)
	}
	seed := hashSeed{1, 2, 3, 4, 5}
	r.Hash = hashFlow(r.Key, &seed)
	return r
}

// exported is the epoch of these records as an aggregator gets it, from an exporter
// with room for one flow in ten.
func exported(t *testing.T, records []fold.Record) *epoch.Epoch {
	t.Helper()
	flows := map[flow.Key]bool{}
	var total epoch.Count
	for i := range records {
		flows[records[i].Key] = true
		total.Add(records[i].Count)
	}
	ledger := fold.NewLedger(fold.LedgerConfig{Entries: len(flows) / 10, LadderEntries: 1024, SketchWidth: 1024, Points: 4})
	defer ledger.Free()
	halves := make([]fold.Half, len(records))
	ledger.AddBatch(halves, records)
	books := ledger.Close(0)
	if len(books.Flows) > len(flows)/10 {
		t.Fatalf("%d flows of %d have room", len(books.Flows), len(flows))
	}
	h := newTestHistory(1000)
	add(t, h, &epoch.Epoch{
		Host: "test", Sequence: 1, Start: start, End: start.Add(time.Second),
		Devices: []epoch.Device{{Name: "eth0", Total: total}},
		Flows:   books.Flows, Ladders: books.Ladders, Sketches: books.Sketches,
	})
	return decode(t, h.After(0, 1, 1))[0]
}

// heavyPrefixes is the definition (Cormode et al., "Finding hierarchical heavy
// hitters in data streams", 2003): the prefixes, in steps of a byte, whose bytes
// less those of their heavy descendants are at least phi of the total. What counts
// under a prefix is given without what counts under longer ones.
func heavyPrefixes(bytes map[netip.Prefix]uint64, phi float64) map[netip.Prefix]bool {
	var total uint64
	at := map[netip.Prefix]uint64{}
	for p, n := range bytes {
		at[p] += n
		total += n
	}
	heavy := map[netip.Prefix]bool{}
	for length := 32; length >= 0; length -= 8 {
		for p, n := range at {
			if p.Bits() != length {
				continue
			}
			if float64(n) >= phi*float64(total) {
				heavy[p] = true
			} else if length > 0 {
				at[parent(p)] += n
			}
		}
	}
	return heavy
}

func parent(p netip.Prefix) netip.Prefix { return netip.PrefixFrom(p.Addr(), p.Bits()-8).Masked() }

// exactBytes is what was sent, by address.
func exactBytes(records []fold.Record, d flow.Dimension) map[netip.Prefix]uint64 {
	all := map[netip.Prefix]uint64{}
	for i := range records {
		all[netip.PrefixFrom(records[i].Addr(d), 32)] += records[i].Bytes
	}
	return all
}

// exportedBytes is what an epoch says.
func exportedBytes(e *epoch.Epoch, d flow.Dimension) map[netip.Prefix]uint64 {
	all := map[netip.Prefix]uint64{}
	for i := range e.Flows {
		all[netip.PrefixFrom(e.Flows[i].Addr(d), 32)] += e.Flows[i].Bytes
	}
	for i := range e.Ladders {
		if e.Ladders[i].Dimension == d {
			for _, p := range e.Ladders[i].Entries {
				all[p.Prefix] += p.Bytes
			}
		}
	}
	return all
}

// With room for a tenth of a flood's flows, the heavy prefixes that an exporter
// sends are those of the flood, and the truth is in their intervals.
func TestHeavyPrefixesOfFloods(t *testing.T) {
	for name, packets := range floods {
		records := readFlood(t, name)
		if len(records) != packets {
			t.Fatalf("%s has %d packets, want %d", name, len(records), packets)
		}
		shuffled := slices.Clone(records)
		rand.New(rand.NewPCG(3, 3)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		for order, records := range map[string][]fold.Record{"in order": records, "shuffled": shuffled} {
			e := exported(t, records)
			for _, d := range flow.Dimensions {
				exact, got := exactBytes(records, d), exportedBytes(e, d)
				for phi, want := range map[float64]float64{0.05: 0.99, 0.01: 0.99, 0.003: 0.95} {
					what := fmt.Sprintf("%s, %s, %s, phi %v", name, order, d, phi)
					compareHeavy(t, what, heavyPrefixes(exact, phi), heavyPrefixes(got, phi), want)
				}
				checkIntervals(t, e, exact, d)
			}
		}
	}
}

func compareHeavy(t *testing.T, what string, exact, got map[netip.Prefix]bool, want float64) {
	t.Helper()
	both := 0.0
	for p := range got {
		if exact[p] {
			both++
		}
	}
	recall, precision := both/float64(len(exact)), both/float64(len(got))
	t.Logf("%s: %d heavy, recall %.3f, precision %.3f", what, len(exact), recall, precision)
	if !(recall >= want && precision >= want) { // nor if there is none
		t.Errorf("%s: recall %.3f, precision %.3f, want %.2f", what, recall, precision, want)
	}
}

// checkIntervals asserts that what was sent is in the interval of each prefix that
// an epoch has an entry for, and of a sample of the addresses.
func checkIntervals(t *testing.T, e *epoch.Epoch, exact map[netip.Prefix]uint64, d flow.Dimension) {
	t.Helper()
	sums := map[netip.Prefix]uint64{}
	for address, n := range exact {
		for p := address; ; p = parent(p) {
			sums[p] += n
			if p.Bits() == 0 {
				break
			}
		}
	}
	i := 0
	for p, n := range sums {
		if i++; p.Bits() > 16 && i%200 != 0 {
			continue // each takes a look at everything
		}
		if interval := e.PrefixInterval(d, p); !interval.Contains(n) {
			t.Errorf("%s %v: %d bytes, not in %v", d, p, n, interval)
		}
	}
}
