package window

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

func newTestHistory(flows int) *History {
	return NewHistory(HistoryConfig{Flows: flows, Retention: time.Minute, MaxBytes: 1 << 30})
}

func add(t *testing.T, h *History, e *epoch.Epoch) {
	t.Helper()
	if err := h.Add(e); err != nil {
		t.Fatal(err)
	}
}

// decode returns the epochs of a batch as an aggregator reads them.
func decode(t *testing.T, b Batch) []*epoch.Epoch {
	t.Helper()
	answer := epoch.EncodeBatchHeader([16]byte{1}, b.Oldest, b.Newest)
	for _, m := range b.Epochs {
		var err error
		if answer, err = m.Decompress(answer); err != nil {
			t.Fatal(err)
		}
	}
	batch, err := epoch.DecodeBatch(answer)
	if err != nil {
		t.Fatal(err)
	}
	return batch.Epochs
}

func sequences(t *testing.T, b Batch) []uint64 {
	t.Helper()
	var all []uint64
	for _, e := range decode(t, b) {
		all = append(all, e.Sequence)
	}
	return all
}

// doubtsOf is what an epoch says may be counted already.
func doubtsOf(e *epoch.Epoch) epoch.Count {
	sum := e.Doubtful
	for i := range e.Flows {
		sum.Add(e.Flows[i].Doubts())
	}
	return sum
}

func TestTrimConserves(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, flows := range []int{0, 1, 99, 100, 101, 20_000} {
		e := testEpoch(1, mixedFlows(random, flows)...)
		addMess(e)
		e.LocalNetworks = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
		e.Doubtful, e.Hidden = epoch.Count{Packets: 1, Bytes: 10}, epoch.Count{Packets: 2, Bytes: 20}
		for i := range e.Flows {
			e.Flows[i].Doubtful = e.Flows[i].Bytes / 7
		}
		before := slices.Clone(e.Flows)
		h := newTestHistory(100)
		add(t, h, e)
		if !slices.Equal(e.Flows, before) {
			t.Errorf("%d flows: the epoch that was added isn't as it was", flows)
		}
		got := decode(t, h.After(0, 1, 1))[0]
		if len(got.Flows) != min(flows, 100) {
			t.Errorf("%d flows: %d kept", flows, len(got.Flows))
		}
		if got.Total() != e.Total() {
			t.Errorf("%d flows: total %v, want %v", flows, got.Total(), e.Total())
		}
		if doubts := doubtsOf(got); doubts != doubtsOf(e) || got.Hidden != e.Hidden {
			t.Errorf("%d flows: %v doubtful and %v hidden, want %v and %v", flows, doubts, got.Hidden, doubtsOf(e), e.Hidden)
		}
		for _, d := range flow.Dimensions {
			if left := e.Unaccounted(d); left != (epoch.Count{}) {
				t.Errorf("%d flows: %v of the test's own epoch unaccounted", flows, left)
			}
			if left := got.Unaccounted(d); left != (epoch.Count{}) {
				t.Errorf("%d flows: %v unaccounted by %s after trimming", flows, left, d)
			}
		}
	}
}

func TestTrimKeepsTheLargest(t *testing.T) {
	h := newTestHistory(2)
	add(t, h, testEpoch(1, testFlow(1, 1, 10), testFlow(2, 1, 30), testFlow(3, 1, 20), testFlow(4, 1, 5)))
	got := decode(t, h.After(0, 1, 1))[0]
	if len(got.Flows) != 2 || got.Flows[0].Bytes != 30 || got.Flows[1].Bytes != 20 {
		t.Errorf("got %v, want the flows of 30 and 20 bytes", got.Flows)
	}
	// The ladders are of this epoch alone: a second one must not find the first's.
	add(t, h, testEpoch(2, testFlow(1, 1, 1), testFlow(2, 1, 1), testFlow(3, 1, 1)))
	got = decode(t, h.After(1, 1, 1))[0]
	if folded := got.Folded(flow.Source); folded.Bytes != 1 {
		t.Errorf("%d bytes folded, want 1", folded.Bytes)
	}
}

// Folded flows must go to the class that their hosts' place says.
func TestTrimClassifies(t *testing.T) {
	h := NewHistory(HistoryConfig{
		Flows: 1, Retention: time.Minute, MaxBytes: 1 << 20,
		Fleet: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.0.0.0/8")},
	})
	fromOutside := testFlow(3, 1, 30)
	fromOutside.Source = address(192, 1)
	e := testEpoch(1, testFlow(1<<16+1, 1, 10), testFlow(2<<16+1, 1, 20), fromOutside, testFlow(9, 9, 1000))
	e.LocalNetworks = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	add(t, h, e)
	got := map[epoch.Class]uint64{}
	for _, l := range decode(t, h.After(0, 1, 1))[0].Ladders {
		for _, entry := range l.Entries {
			if l.Dimension == flow.Source {
				got[l.Class] += entry.Bytes
			}
		}
	}
	want := map[epoch.Class]uint64{epoch.Own: 10, epoch.FleetSource: 20, epoch.FleetDestination: 30}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("bytes by class: got %v, want %v", got, want)
	}
}

func TestHistoryAfter(t *testing.T) {
	h := newTestHistory(10)
	if b := h.After(0, 10, 1<<20); b.Newest != 0 || len(b.Epochs) != 0 {
		t.Errorf("empty: got %v", b)
	}
	for sequence := range uint64(5) {
		add(t, h, testEpoch(sequence+1, testFlow(1, 1, 100)))
	}
	size := len(h.After(0, 1, 1).Epochs[0])
	for _, test := range []struct {
		after               uint64
		maxEpochs, maxBytes int
		want                []uint64
	}{
		{0, 64, 1 << 20, []uint64{1, 2, 3, 4, 5}},
		{3, 64, 1 << 20, []uint64{4, 5}},
		{5, 64, 1 << 20, nil},
		{99, 64, 1 << 20, nil},
		{0, 2, 1 << 20, []uint64{1, 2}},
		{0, 64, 2*size + 1, []uint64{1, 2}},
		{0, 64, 1, []uint64{1}},
		{0, 0, 1, nil},
	} {
		b := h.After(test.after, test.maxEpochs, test.maxBytes)
		if got := sequences(t, b); !slices.Equal(got, test.want) {
			t.Errorf("after %d, at most %d, %d bytes: got %v, want %v", test.after, test.maxEpochs, test.maxBytes, got, test.want)
		}
		if b.Oldest != 1 || b.Newest != 5 {
			t.Errorf("got %d to %d, want 1 to 5", b.Oldest, b.Newest)
		}
	}
}

func TestHistoryForgets(t *testing.T) {
	t.Run("by age", func(t *testing.T) {
		h := NewHistory(HistoryConfig{Flows: 1, Retention: 2 * epochLength, MaxBytes: 1 << 20})
		for sequence := range uint64(10) {
			add(t, h, testEpoch(sequence+1, testFlow(1, 1, 1)))
		}
		if got := sequences(t, h.After(0, 64, 1<<20)); !slices.Equal(got, []uint64{8, 9, 10}) {
			t.Errorf("got %v, want the newest and those at most two epochs older", got)
		}
	})
	t.Run("by bytes", func(t *testing.T) {
		probe := newTestHistory(1)
		add(t, probe, testEpoch(1, testFlow(1, 1, 1)))
		h := NewHistory(HistoryConfig{Flows: 1, Retention: time.Hour, MaxBytes: 3*len(probe.After(0, 1, 1).Epochs[0]) + 3})
		for sequence := range uint64(100) {
			add(t, h, testEpoch(sequence+1, testFlow(1, 1, 1)))
		}
		if got := sequences(t, h.After(0, 64, 1<<20)); !slices.Equal(got, []uint64{98, 99, 100}) {
			t.Errorf("got %v, want three", got)
		}
	})
	t.Run("but not the newest", func(t *testing.T) {
		h := NewHistory(HistoryConfig{Flows: 1, MaxBytes: 1})
		add(t, h, testEpoch(1, testFlow(1, 1, 1)))
		add(t, h, testEpoch(2, testFlow(1, 1, 1)))
		if got := sequences(t, h.After(0, 64, 1<<20)); !slices.Equal(got, []uint64{2}) {
			t.Errorf("got %v, want the newest", got)
		}
	})
}

func TestHistoryWait(t *testing.T) {
	h := newTestHistory(1)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Wait(cancelled, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("empty: got %v, want context.Canceled", err)
	}
	// Every reader must get every epoch, whenever it comes to wait.
	const epochs, readers = 200, 8
	var group sync.WaitGroup
	for range readers {
		group.Go(func() {
			for after := uint64(0); after < epochs; {
				if err := h.Wait(t.Context(), after); err != nil {
					t.Error(err)
					return
				}
				b := h.After(after, 3, 1<<20)
				if len(b.Epochs) == 0 {
					t.Errorf("nothing after %d", after)
					return
				}
				after += uint64(len(b.Epochs))
			}
		})
	}
	for sequence := range uint64(epochs) {
		add(t, h, testEpoch(sequence+1))
	}
	group.Wait()
	if err := h.Wait(cancelled, 0); err != nil {
		t.Errorf("there is one, but got %v", err)
	}
}

func BenchmarkHistoryAdd(b *testing.B) {
	e := testEpoch(1, mixedFlows(rand.New(rand.NewPCG(1, 1)), 83_000)...)
	h := newTestHistory(1000)
	b.ReportAllocs()
	for b.Loop() {
		if err := h.Add(e); err != nil {
			b.Fatal(err)
		}
	}
}
