package epoch_test

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	. "github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/epoch/epochpb"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
)

func address(s string) [16]byte { return netip.MustParseAddr(s).As16() }

// example is an epoch with something in every field, whose sums agree.
func example() *Epoch {
	r := rand.New(rand.NewPCG(5, 5))
	sketch := &hll.Sketch{}
	for range 3000 {
		sketch.Insert(r.Uint64())
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
			{flow.Key{Source: address("10.0.0.2"), Destination: address("10.0.0.3"), SourcePort: 65535, DestinationPort: 1, Protocol: 6}, flow.Egress, Count{7, 2000}, 33},
			{flow.Key{Source: address("10.0.0.4"), Destination: address("10.0.0.3"), Protocol: 1}, flow.Ingress, Count{1, 40}, 0},
			{flow.Key{Source: address("fd00::1"), Destination: address("fd00::2"), SourcePort: 9, Protocol: 17}, flow.Egress, Count{4, 400}, 1 << 40},
		},
		Ladders: []Ladder{
			{Dimension: flow.Source, Class: FleetSource, Entries: folded[:3]},
			{Dimension: flow.Source, Class: Own, Entries: folded[3:]},
			{Dimension: flow.Destination, Class: Own, Entries: []Prefix{{netip.MustParsePrefix("::/0"), Count{10, 850}}}},
		},
		Sketches:      []Sketch{{Of: OfFlows, KeyFingerprint: 42, HLL: sketch}, {Of: OfSources, KeyFingerprint: 42, HLL: &hll.Sketch{}}},
		LocalNetworks: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/32"), netip.MustParsePrefix("fd00::/64")},
	}
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
	want, next := example(), example()
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
		"other version":    {func(b *epochpb.Batch) { b.Epochs[0].Version = 2 }, "version 2"},
		"no sequence":      {func(b *epochpb.Batch) { b.Epochs[0].Sequence = 0 }, "sequence"},
		"an hour":          {func(b *epochpb.Batch) { b.Epochs[0].EndUnixNano += int64(time.Hour) }, "1h0m0.5s long"},
		"no order":         {func(b *epochpb.Batch) { b.Epochs = append(b.Epochs, b.Epochs[0]) }, "epoch 7 after epoch 7"},
		"messages":         {func(b *epochpb.Batch) { b.Epochs[0].Devices = make([]*epochpb.Device, 1<<20) }, "messages within"},
		"ends early":       {func(b *epochpb.Batch) { b.Epochs[0].EndUnixNano = 1 }, "ends before"},
		"a byte more":      {func(b *epochpb.Batch) { b.Epochs[0].Flows.Bytes[0]++ }, "conserve"},
		"a folded packet":  {func(b *epochpb.Batch) { b.Epochs[0].Ladders[0].Levels[0].Packets[0]-- }, "conserve"},
		"short addresses":  {func(b *epochpb.Batch) { b.Epochs[0].Flows.Sources = b.Epochs[0].Flows.Sources[1:] }, "flow columns"},
		"short ports":      {func(b *epochpb.Batch) { b.Epochs[0].Flows.SourcePorts = nil }, "flow columns"},
		"short errors":     {func(b *epochpb.Batch) { b.Epochs[0].Flows.Errors = b.Epochs[0].Flows.Errors[1:] }, "flow columns"},
		"more IPv4":        {func(b *epochpb.Batch) { b.Epochs[0].Flows.Ipv4 = 1 << 30 }, "flow columns"},
		"port":             {func(b *epochpb.Batch) { b.Epochs[0].Flows.SourcePorts[0] = 70000 }, "port"},
		"flow direction":   {func(b *epochpb.Batch) { b.Epochs[0].Flows.Directions[0] = 2 }, "direction"},
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
		"many sketches":    {func(b *epochpb.Batch) { b.Epochs[0].Sketches = make([]*epochpb.Sketch, 17) }, "17 sketches"},
		"many epochs":      {func(b *epochpb.Batch) { b.Epochs = make([]*epochpb.Epoch, 129) }, "129 epochs"},
		"network":          {func(b *epochpb.Batch) { b.Epochs[0].LocalNetworks[0] = []byte{1, 2, 3} }, "local network"},
		"network's length": {func(b *epochpb.Batch) { b.Epochs[0].LocalNetworks[0][4] = 33 }, "local network"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var message epochpb.Batch
			if err := proto.Unmarshal(EncodeBatch([16]byte{}, 1, 1, [][]byte{encode(t, example())}), &message); err != nil {
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

// Arbitrary bytes are refused or decoded, what is decoded adds up, and neither takes
// memory out of proportion. Seeds are in testdata, too.
func FuzzDecodeBatch(f *testing.F) {
	encoded, err := Encode(example())
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
