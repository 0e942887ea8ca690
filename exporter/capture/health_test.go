package capture

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// What is said of an epoch is what was in it: as long as there is room every flow is
// in the cache, and in the table.
func TestHealthOfAQuietEpoch(t *testing.T) {
	c := newTestCapture(t, 64<<20)
	if h := c.Health(); h != nil {
		t.Errorf("before the first epoch: %+v", h)
	}
	for range 3 {
		for i := range uint32(100) {
			c.run(t, udpPacket(i, 20).data)
		}
	}
	c.epoch(t)
	h := c.Health()
	// Flows of a set with more than two leave it; a test run takes several CPUs.
	if h.TableEntries != 100 || h.CacheEntries < 90 || uint64(h.CacheEntries)+h.Evictions < 100 || h.Folds != 0 {
		t.Errorf("after 100 flows: %+v", h)
	}
	c.epoch(t)
	if h := c.Health(); h.TableEntries != 0 || h.CacheEntries != 0 {
		t.Errorf("after an epoch without traffic: %+v", h)
	}
}

// Many more flows than there is room for: each structure says that it was full, and
// none that it held more than it can.
func TestHealthWhenEverythingIsFull(t *testing.T) {
	c := newTestCapture(t, 4<<20)
	for i := range uint32(30_000) {
		c.run(t, udpPacket(i, 20).data)
		if i%1000 == 0 {
			c.kernel.ring.drain(c.book)
		}
	}
	e := c.epoch(t)
	h := c.Health()
	folded := e.Folded(flow.Source).Packets // of one packet each
	if h.Folds != folded || folded == 0 {
		t.Errorf("%d folds, %d flows were folded", h.Folds, folded)
	}
	if h.TableEntries != len(e.Flows) || h.TableEntries > h.TableRoom || h.TableEntries < h.TableRoom*3/4 {
		t.Errorf("%d of %d entries of the table, %d flows", h.TableEntries, h.TableRoom, len(e.Flows))
	}
	if h.CacheEntries > h.CacheRoom || h.CacheEntries == 0 {
		t.Errorf("%d of %d slots of the cache", h.CacheEntries, h.CacheRoom)
	}
	if all := uint64(h.CacheEntries) + h.Evictions; all != 30_000-e.Remainder().Packets {
		t.Errorf("%d slots came from the cache, of 30000 packets, each a flow, %d of them in the remainder", all, e.Remainder().Packets)
	}
	if h.RingPeak < 1000*40 || h.RingPeak > h.RingRoom {
		t.Errorf("at most %d of %d bytes waited in the ring", h.RingPeak, h.RingRoom)
	}
	before := h.Evictions
	c.epoch(t)
	if h := c.Health(); h.Evictions != before || h.Folds != folded {
		t.Errorf("counters went on without traffic: %+v", h)
	}
}

// An epoch that ends late says by how much, one that ends early says 0.
func TestHealthLag(t *testing.T) {
	c := newTestCapture(t, 8<<20)
	for _, age := range []time.Duration{3 * time.Second, 0} {
		c.start = time.Now().Add(-age)
		due := c.boundary(c.start)
		c.epoch(t)
		h := c.Health()
		if h.Lag != max(0, h.End.Sub(due)) || age > 0 && h.Lag < age-c.config.Epoch {
			t.Errorf("lag %v of an epoch that was to end at %v and ended at %v", h.Lag, due, h.End)
		}
	}
}

func TestPeakLastsAMinute(t *testing.T) {
	var p peak
	t0 := time.Unix(1_000_000, 0)
	for _, step := range []struct {
		second int
		value  uint64
		want   uint64
	}{{0, 5, 5}, {1, 90, 90}, {2, 3, 90}, {59, 4, 90}, {61, 4, 90}, {119, 7, 90}, {121, 1, 7}, {182, 2, 2}, {500, 0, 2}, {561, 0, 0}} {
		if got := p.note(step.value, t0.Add(time.Duration(step.second)*time.Second)); got != step.want {
			t.Errorf("second %d: %d, want %d", step.second, got, step.want)
		}
	}
}

const bpfStatistics = "/proc/sys/kernel/bpf_stats_enabled"

// The kernel's own statistics are told while it makes them, and not otherwise.
func TestProgramStats(t *testing.T) {
	c := newTestCapture(t, 8<<20)
	before, err := os.ReadFile(bpfStatistics)
	if err != nil {
		t.Fatal(err)
	}
	set := func(value []byte) {
		if err := os.WriteFile(bpfStatistics, value, 0); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { set(before) })
	packet := udpPacket(1, 20).data
	set([]byte("1"))
	for range 50 {
		c.run(t, packet)
	}
	stats := c.ProgramStats()
	if len(stats) != 2 {
		t.Fatalf("statistics of %d programs", len(stats))
	}
	ingress := stats[flow.Ingress]
	if ingress.Direction != flow.Ingress || ingress.Runs != 50 || ingress.Time <= 0 || ingress.Time > time.Second {
		t.Errorf("after 50 packets: %+v", ingress)
	}
	if egress := stats[flow.Egress]; egress.Direction != flow.Egress || egress.Runs != 0 {
		t.Errorf("after no packet: %+v", egress)
	}
	set([]byte("0"))
	if stats := c.ProgramStats(); bytes.HasPrefix(before, []byte("0")) && len(stats) != 0 {
		t.Errorf("statistics that are off: %+v", stats)
	}
}

// What the budget went to is all that the layout takes.
func TestMemoryAddsUp(t *testing.T) {
	l, err := newLayout(64<<20, 4)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, use := range l.uses() {
		if use.Bytes <= 0 {
			t.Errorf("%s takes %d bytes", use.Part, use.Bytes)
		}
		sum += use.Bytes
	}
	if sum != l.Bytes() || sum > 64<<20 {
		t.Errorf("the parts are %d bytes, all together %d", sum, l.Bytes())
	}
}
