package epoch_test

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	. "github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/epoch/epochpb"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
	"github.com/traffic-monitor-agent/tma/internal/sketch/pairs"
)

func address(s string) [16]byte { return netip.MustParseAddr(s).As16() }

// example is an epoch with something in every field, whose sums agree.
func example() *Epoch {
	r := rand.New(rand.NewPCG(5, 5))
	sketch, full := &hll.Sketch{}, &hll.Sketch{}
	for range 3000 {
		sketch.Insert(r.Uint64())
	}
	for range 1_000_000 {
		full.Insert(r.Uint64())
	}
	folded := []Prefix{
		{netip.MustParsePrefix("10.0.0.1/32"), Count{3, 300}},
		{netip.MustParsePrefix("10.9.0.0/16"), Count{2, 100}},
		{netip.MustParsePrefix("0.0.0.0/0"), Count{1, 50}},
		{netip.MustParsePrefix("fd00:1::/48"), Count{4, 400}},
	}
	return &Epoch{
		Host: "host-a", Sequence: 7, Start: time.Unix(100, 5), End: time.Unix(100, 500_000_005),
		Devices: []Device{
			{
				Name: "eth0", Direction: flow.Egress, Total: Count{30, 4000}, Duplicate: Count{5, 500},
				Remainder: Count{2, 150}, Others: []Reason{{"not_ip", Count{1, 60}}},
			},
			{Name: "eth1", Direction: flow.Ingress},
		},
		Flows: []Flow{
			{flow.Key{Source: address("10.0.0.2"), Destination: address("10.0.0.3"), SourcePort: 65535, DestinationPort: 1, Protocol: 6}, flow.Egress, Count{7, 2000}, 33, 0},
			{flow.Key{Source: address("10.0.0.4"), Destination: address("10.0.0.3"), Protocol: 1}, flow.Ingress, Count{1, 40}, 0, 15},
			{flow.Key{Source: address("fd00::1"), Destination: address("fd00::2"), SourcePort: 9, Protocol: 17}, flow.Egress, Count{4, 400}, 1 << 40, 400},
		},
		Ladders: []Ladder{
			{Dimension: flow.Source, Class: FleetSource, Entries: folded[:3]},
			{Dimension: flow.Source, Class: Own, Entries: folded[3:]},
			{Dimension: flow.Destination, Class: Own, Entries: []Prefix{{netip.MustParsePrefix("::/0"), Count{10, 850}}}},
		},
		Sketches:      []Sketch{{Of: OfFlows, KeyFingerprint: 42, HLL: sketch}, {Of: OfSources, KeyFingerprint: 42, HLL: &hll.Sketch{}}, {Of: OfDestinations, KeyFingerprint: 42, HLL: full}},
		LocalNetworks: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/32"), netip.MustParsePrefix("fd00::/64")},
		Doubtful:      Count{3, 120},
		Hidden:        Count{4, 70},
		SampledPairs: &pairs.Thinned{
			Level: 3,
			Pairs: []pairs.Pair{
				{Source: address("10.0.0.4"), Destination: address("10.0.0.3"), Level: 5}, // of a flow
				{Source: address("10.0.0.9"), Destination: address("10.0.0.3"), Level: 3},
				{Source: address("10.0.0.9"), Destination: address("fd00::3"), Level: 64},
			},
			Crowded: []pairs.Crowded{{Dimension: flow.Destination, Address: address("10.0.0.3"), Level: 9}, {Dimension: flow.Source, Address: address("fd00::3"), Level: 4}},
		},
		Exporters: Exporters{Known: 7, Up: 5},
	}
}

// withReverse is the example and what goes the other way of its first flow.
func withReverse() *Epoch {
	e := example()
	back := Flow{flow.Key{Source: address("10.0.0.3"), Destination: address("10.0.0.2"), SourcePort: 1, DestinationPort: 65535, Protocol: 6}, flow.Ingress, Count{5, 700}, 0, 0}
	e.Flows = slices.Insert(e.Flows, 1, back)
	e.Devices[0].Total.Add(back.Count)
	return e
}

func encode(t *testing.T, e *Epoch) []byte {
	t.Helper()
	encoded, err := Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func TestRoundTrip(t *testing.T) {
	want, next := withReverse(), withReverse()
	next.Sequence++
	for _, d := range flow.Dimensions {
		if left := want.Unaccounted(d); left != (Count{}) {
			t.Fatalf("the example doesn't add up by %v: %v", d, left)
		}
	}
	boot := [16]byte{1, 2, 3}
	batch, err := DecodeBatch(EncodeBatch(boot, 3, 9, [][]byte{encode(t, want), encode(t, next)}))
	if err != nil {
		t.Fatal(err)
	}
	if batch.BootID != boot || batch.Oldest != 3 || batch.Newest != 9 || len(batch.Epochs) != 2 {
		t.Errorf("batch %v from %d to %d of %d epochs", batch.BootID, batch.Oldest, batch.Newest, len(batch.Epochs))
	}
	for i, want := range []*Epoch{want, next} {
		if got := batch.Epochs[i]; !reflect.DeepEqual(got, want) {
			t.Errorf("decoded\n%+v\nwant\n%+v", got, want)
		}
	}
}

// A message of an exporter that doesn't know of doubts has none.
func TestDecodeWithoutDoubts(t *testing.T) {
	var message epochpb.Batch
	if err := proto.Unmarshal(EncodeBatch([16]byte{}, 1, 1, [][]byte{encode(t, example())}), &message); err != nil {
		t.Fatal(err)
	}
	e := message.Epochs[0]
	e.Doubtful, e.Hidden, e.Flows.Doubtful = nil, nil, nil
	data, err := proto.Marshal(&message)
	if err != nil {
		t.Fatal(err)
	}
	batch, err := DecodeBatch(data)
	if err != nil {
		t.Fatal(err)
	}
	want := example()
	want.Doubtful, want.Hidden = Count{}, Count{}
	for i := range want.Flows {
		want.Flows[i].Doubtful = 0
	}
	if got := batch.Epochs[0]; !reflect.DeepEqual(got, want) {
		t.Errorf("decoded\n%+v\nwant\n%+v", got, want)
	}
}

func TestEmptyBatch(t *testing.T) {
	batch, err := DecodeBatch(EncodeBatch([16]byte{}, 0, 0, nil))
	if err != nil || len(batch.Epochs) != 0 {
		t.Errorf("%+v, %v", batch, err)
	}
}

// Each message that contradicts itself is refused whole, with what is wrong.
func TestDecodeRefuses(t *testing.T) {
	tests := map[string]struct {
		change func(*epochpb.Batch)
		want   string
	}{
		"short boot id":    {func(b *epochpb.Batch) { b.BootId = b.BootId[:15] }, "boot id"},
		"other version":    {func(b *epochpb.Batch) { b.Epochs[0].Version = 1 }, "version 1"},
		"no sequence":      {func(b *epochpb.Batch) { b.Epochs[0].Sequence = 0 }, "sequence"},
		"an hour":          {func(b *epochpb.Batch) { b.Epochs[0].EndUnixNano += int64(time.Hour) }, "1h0m0.5s long"},
		"no order":         {func(b *epochpb.Batch) { b.Epochs = append(b.Epochs, b.Epochs[0]) }, "epoch 7 after epoch 7"},
		"messages":         {func(b *epochpb.Batch) { b.Epochs[0].Devices = make([]*epochpb.Device, 1<<20) }, "messages within"},
		"ends early":       {func(b *epochpb.Batch) { b.Epochs[0].EndUnixNano = 1 }, "ends before"},
		"a byte more":      {func(b *epochpb.Batch) { b.Epochs[0].Flows.Bytes[0]++ }, "conserve"},
		"a folded packet":  {func(b *epochpb.Batch) { b.Epochs[0].Ladders[0].Levels[0].Packets[0]-- }, "conserve"},
		"short addresses":  {func(b *epochpb.Batch) { b.Epochs[0].Flows.Sources = b.Epochs[0].Flows.Sources[1:] }, "flow columns"},
		"short ports":      {func(b *epochpb.Batch) { b.Epochs[0].Flows.SourcePorts = nil }, "flow columns"},
		"short doubts":     {func(b *epochpb.Batch) { b.Epochs[0].Flows.Doubtful = b.Epochs[0].Flows.Doubtful[1:] }, "flow columns"},
		"doubtful flow":    {func(b *epochpb.Batch) { b.Epochs[0].Flows.Doubtful[2] = 401 }, "401 doubtful bytes of 40"},
		"doubts of more":   {func(b *epochpb.Batch) { b.Epochs[0].Doubtful.Bytes = 851 }, "851 doubtful bytes, but 850"},
		"doubtful packets": {func(b *epochpb.Batch) { b.Epochs[0].Doubtful.Packets = 11 }, "doubtful"},
		"hidden bytes":     {func(b *epochpb.Batch) { b.Epochs[0].Hidden.Bytes = 501 }, "501 hidden bytes, but 500"},
		"hidden packets":   {func(b *epochpb.Batch) { b.Epochs[0].Hidden.Packets = 6 }, "hidden"},
		"exporters up":     {func(b *epochpb.Batch) { b.Epochs[0].Exporters.Up = 8 }, "8 exporters up of 7"},
		"short errors":     {func(b *epochpb.Batch) { b.Epochs[0].Flows.Errors = b.Epochs[0].Flows.Errors[1:] }, "flow columns"},
		"more IPv4":        {func(b *epochpb.Batch) { b.Epochs[0].Flows.Ipv4 = 1 << 30 }, "flow columns"},
		"port":             {func(b *epochpb.Batch) { b.Epochs[0].Flows.SourcePorts[0] = 70000 }, "port"},
		"flow direction":   {func(b *epochpb.Batch) { b.Epochs[0].Flows.Directions[0] = 4 }, "direction"},
		"reverse of none":  {func(b *epochpb.Batch) { swapDirections(b, 0, 1) }, "reverse of none"},
		"reverse of it":    {reverseTwice, "reverse of none"},
		"a key too many":   {func(b *epochpb.Batch) { b.Epochs[0].Flows.Directions[1] = 0 }, "flow columns"},
		"device direction": {func(b *epochpb.Batch) { b.Epochs[0].Devices[0].Direction = 7 }, "direction"},
		"class":            {func(b *epochpb.Batch) { b.Epochs[0].Ladders[0].Class = 3 }, "class"},
		"dimension":        {func(b *epochpb.Batch) { b.Epochs[0].Ladders[0].Dimension = -1 }, "dimension"},
		"prefix too long":  {func(b *epochpb.Batch) { b.Epochs[0].Ladders[0].Levels[0].PrefixLength = 4000 }, "ladder columns"},
		"prefix bits":      {func(b *epochpb.Batch) { b.Epochs[0].Ladders[0].Levels[1].PrefixLength = 15 }, "bits set"},
		"prefix column":    {func(b *epochpb.Batch) { b.Epochs[0].Ladders[0].Levels[0].Prefixes = nil }, "ladder columns"},
		"precision":        {func(b *epochpb.Batch) { b.Epochs[0].Sketches[0].Precision = 12 }, "precision"},
		"register":         {func(b *epochpb.Batch) { b.Epochs[0].Sketches[0].IndexDeltas[5] = 1 << 31 }, "register"},
		"register twice":   {func(b *epochpb.Batch) { b.Epochs[0].Sketches[0].IndexDeltas[5] = 0 }, "register"},
		"register value":   {func(b *epochpb.Batch) { b.Epochs[0].Sketches[0].Values[5] = 60 }, "sketch of flows"},
		"sketch column":    {func(b *epochpb.Batch) { b.Epochs[0].Sketches[0].Values = nil }, "sketch columns"},
		"nibbles":          {func(b *epochpb.Batch) { b.Epochs[0].Sketches[2].Nibbles = make([]byte, 5) }, "registers"},
		"base":             {func(b *epochpb.Batch) { b.Epochs[0].Sketches[2].Base = 1 << 31 }, "registers"},
		"nibbles, indices": {func(b *epochpb.Batch) { b.Epochs[0].Sketches[2].IndexDeltas = []uint32{1} }, "registers"},
		"high registers":   {func(b *epochpb.Batch) { b.Epochs[0].Sketches[2].High = nil }, "high registers"},
		"too high":         {func(b *epochpb.Batch) { b.Epochs[0].Sketches[2].High[0] = 60 }, "sketch of destinations"},
		"more high":        {func(b *epochpb.Batch) { s := b.Epochs[0].Sketches[2]; s.High = append(s.High, 20) }, "high registers"},
		"many sketches":    {func(b *epochpb.Batch) { b.Epochs[0].Sketches = make([]*epochpb.Sketch, 17) }, "17 sketches"},
		"many epochs":      {func(b *epochpb.Batch) { b.Epochs = make([]*epochpb.Epoch, 129) }, "129 epochs"},
		"pair columns":     {func(b *epochpb.Batch) { b.Epochs[0].Pairs.Sources = b.Epochs[0].Pairs.Sources[1:] }, "pair columns"},
		"pair levels":      {func(b *epochpb.Batch) { b.Epochs[0].Pairs.Levels[1] = 65 }, "a pair of level 65"},
		"pairs of flows":   {func(b *epochpb.Batch) { b.Epochs[0].Pairs.FlowLevels = []byte{1} }, "pair columns"},
		"levels of flows":  {func(b *epochpb.Batch) { b.Epochs[0].Pairs.FlowLevels[0] = 66 }, "a pair of level 65"},
		"more IPv4 pairs":  {func(b *epochpb.Batch) { b.Epochs[0].Pairs.Ipv4 = 1 << 31 }, "pair columns"},
		"level of pairs":   {func(b *epochpb.Batch) { b.Epochs[0].Pairs.Level = 65 }, "pair columns"},
		"crowded address":  {func(b *epochpb.Batch) { b.Epochs[0].Pairs.Crowded[0].Address = nil }, "crowded address of 0 bytes"},
		"crowded of what":  {func(b *epochpb.Batch) { b.Epochs[0].Pairs.Crowded[0].Dimension = 2 }, "dimension 2"},
		"crowded level":    {func(b *epochpb.Batch) { b.Epochs[0].Pairs.Crowded[0].Level = 1 << 20 }, "crowded address"},
		"many crowded":     {func(b *epochpb.Batch) { b.Epochs[0].Pairs.Crowded = make([]*epochpb.Crowded, 17) }, "17 crowded"},
		"network":          {func(b *epochpb.Batch) { b.Epochs[0].LocalNetworks[0] = []byte{1, 2, 3} }, "local network"},
		"network's length": {func(b *epochpb.Batch) { b.Epochs[0].LocalNetworks[0][4] = 33 }, "local network"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var message epochpb.Batch
			if err := proto.Unmarshal(EncodeBatch([16]byte{}, 1, 1, [][]byte{encode(t, withReverse())}), &message); err != nil {
				t.Fatal(err)
			}
			test.change(&message)
			data, err := proto.Marshal(&message)
			if err != nil {
				t.Fatal(err)
			}
			batch, err := DecodeBatch(data)
			if batch != nil || !errors.Is(err, ErrMessage) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, %v; want an error about %q", batch, err, test.want)
			}
		})
	}
}

func swapDirections(b *epochpb.Batch, i, j int) {
	all := b.Epochs[0].Flows.Directions
	all[i], all[j] = all[j], all[i]
}

// reverseTwice takes the key of the third flow away, as if that were the reverse of the
// second one, which is a reverse.
func reverseTwice(b *epochpb.Batch) {
	f := b.Epochs[0].Flows
	f.Directions[2] |= 2
	f.Ipv4--
	f.Sources, f.Destinations = f.Sources[4:], f.Destinations[4:]
	f.SourcePorts, f.DestinationPorts, f.Protocols = f.SourcePorts[1:], f.DestinationPorts[1:], f.Protocols[1:]
}

// Every number of registers comes back, from none to all of them and beyond what a
// nibble holds.
func TestSketchesOfAllSizesRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	sketch := &hll.Sketch{}
	for n := 0; n < 3_000_000; n = n*5/4 + 1 {
		for range n/5 + 1 {
			sketch.Insert(r.Uint64())
		}
		e := &Epoch{Sequence: 1, Sketches: []Sketch{{Of: OfFlows, HLL: sketch}}}
		batch, err := DecodeBatch(EncodeBatch([16]byte{}, 1, 1, [][]byte{encode(t, e)}))
		if err != nil {
			t.Fatal(err)
		}
		if *batch.Epochs[0].Sketches[0].HLL != *sketch {
			t.Fatalf("after about %d items other registers came back", n)
		}
	}
}

// Of two flows that are each other's reverse only one has its key sent, whatever
// stands between them.
func TestReversesShareAKey(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	e := &Epoch{Sequence: 1, Devices: []Device{{Name: "eth0"}}}
	want := map[flow.Key]Flow{}
	for i := range 500 {
		key := flow.Key{Source: address("10.0.0.2"), Destination: address("10.0.0.3"), SourcePort: uint16(i), DestinationPort: uint16(1000 + i%3), Protocol: 6}
		if i%3 == 0 {
			key.Source, key.Destination = address("fd00::1"), address("fd00::2")
		}
		back := flow.Key{Source: key.Destination, Destination: key.Source, SourcePort: key.DestinationPort, DestinationPort: key.SourcePort, Protocol: 6}
		for _, f := range []Flow{{Key: key, Direction: flow.Egress}, {Key: back}} {
			f.Count = Count{Packets: 1, Bytes: r.Uint64N(1 << 20)}
			e.Devices[0].Total.Add(f.Count)
			e.Flows, want[f.Key] = append(e.Flows, f), f
		}
	}
	encoded := encode(t, e)
	batch, err := DecodeBatch(EncodeBatch([16]byte{}, 1, 1, [][]byte{encoded}))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range batch.Epochs[0].Flows {
		if want[f.Key] != f {
			t.Errorf("got %+v, want %+v", f, want[f.Key])
		}
		delete(want, f.Key)
	}
	if len(want) != 0 {
		t.Errorf("%d flows didn't come back", len(want))
	}
	var message epochpb.Epoch
	if err := proto.Unmarshal(encoded, &message); err != nil {
		t.Fatal(err)
	}
	if n := len(message.Flows.Protocols); n != 500 {
		t.Errorf("%d keys were sent, want 500", n)
	}
}

// Arbitrary bytes are refused or decoded, what is decoded adds up, and neither takes
// memory out of proportion. Seeds are in testdata, too.
func FuzzDecodeBatch(f *testing.F) {
	encoded, err := Encode(withReverse())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(EncodeBatch([16]byte{}, 1, 1, [][]byte{encoded}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		var batch *Batch
		var err error
		if took := allocated(func() { batch, err = DecodeBatch(data) }); took > fuzzBound(len(data)) {
			t.Errorf("%d bytes made it allocate %d", len(data), took)
		}
		if err != nil {
			return
		}
		for _, e := range batch.Epochs {
			if left := e.Unaccounted(flow.Source); left != (Count{}) {
				t.Errorf("decoded an epoch with %v unaccounted", left)
			}
		}
	})
}

// fuzzBound is what a message of n bytes may have allocated: some hundred bytes for
// each of its messages of 2 bytes, 8 for each column's byte, twice while columns grow,
// and the registers of its sketches, 16 of each of 128 epochs at most, of 4 bytes at
// least.
func fuzzBound(n int) uint64 { return 256*uint64(n) + 2*hll.Registers*min(uint64(n)/4, 16*128) + 1<<20 }

// allocated returns how many bytes a function allocated, and whoever ran beside it.
func allocated(do func()) uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	do()
	metrics.Read(sample)
	return sample[0].Value.Uint64() - before
}

// The worst of small messages costs what the bounds say, at most.
func TestDecodeAllocates(t *testing.T) {
	empty := func(n int) (many []byte) {
		for range n {
			many = append(many, 4<<3|2, 0) // an empty message in field 4: an epoch
		}
		return many
	}
	for n, bound := range map[int]uint64{1 << 24: 1 << 20, 1 << 20: 512 << 20} {
		data := empty(n)
		if took := allocated(func() { DecodeBatch(data) }); took > bound {
			t.Errorf("%d epochs: %d bytes, want %d at most", n, took, bound)
		}
	}
}
