package capture

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// mountBPF mounts a BPF file system for the test.
func mountBPF(t *testing.T) string {
	t.Helper()
	path := t.TempDir()
	must(t, unix.Mount("bpf", path, "bpf", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(path, unix.MNT_DETACH)) })
	return path
}

// reader is what an aggregator has of several lives of an exporter.
type reader struct {
	t        *testing.T
	messages map[uint64][]byte
	boot     [16]byte
}

// take reads an epoch that may be known, but only as the same one.
func (r *reader) take(sequence uint64, message []byte) {
	known, ok := r.messages[sequence]
	if ok && !bytes.Equal(known, message) {
		r.t.Errorf("epoch %d was handed out with other contents before", sequence)
	}
	r.messages[sequence] = bytes.Clone(message)
}

// flows adds up all epochs, none of which may be missing or short of a byte.
func (r *reader) flows() (flows map[flow.Key]epoch.Count, total epoch.Count) {
	r.t.Helper()
	flows = map[flow.Key]epoch.Count{}
	for n := range uint64(len(r.messages)) {
		message, ok := r.messages[n+1]
		if !ok {
			r.t.Fatalf("epoch %d of %d is missing", n+1, len(r.messages))
		}
		batch, err := epoch.DecodeBatch(epoch.EncodeBatch([16]byte{1}, n+1, n+1, [][]byte{message}))
		must(r.t, err)
		e := batch.Epochs[0]
		if left := e.Unaccounted(flow.Source); left != (epoch.Count{}) {
			r.t.Errorf("epoch %d: %v unaccounted", n+1, left)
		}
		total.Add(e.Total())
		for _, f := range e.Flows {
			c := flows[f.Key]
			c.Add(f.Count)
			flows[f.Key] = c
		}
	}
	return flows, total
}

// live runs a capture until a moment of its n-th epoch, at which it vanishes without
// doing anything more, or, for the moment after the last, for n epochs and ends.
func (r *reader) live(config Config, end moment, n int) {
	r.t.Helper()
	var encoded []byte
	config.Epoch, config.Host, config.JournalMemory = 100*time.Millisecond, "test", 4<<20
	config.Encode = func(e *epoch.Epoch) (message []byte, err error) {
		encoded, err = epoch.Encode(e)
		return encoded, err
	}
	reached, epochs := 0, 0
	config.at = func(m moment) {
		if m == end {
			if reached++; reached == n {
				runtime.Goexit()
			}
		}
	}
	c, err := New(config, slog.New(slog.DiscardHandler))
	must(r.t, err)
	for _, kept := range c.Kept() {
		r.take(kept.Sequence, kept.Message)
	}
	if r.boot != [16]byte{} && c.Boot() != r.boot {
		r.t.Error("another run, by its id")
	}
	r.boot = c.Boot()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := error(nil)
		defer func() { done <- err }()
		err = c.Run(ctx, func(e *epoch.Epoch, _ time.Duration) {
			r.take(e.Sequence, encoded)
			if epochs++; epochs == n && end == moments {
				cancel()
			}
		})
	}()
	if err := <-done; err != nil {
		r.t.Error(err)
	}
	cancel()
	must(r.t, c.Close())
}

// flood sends packets of many flows until stopped, and says what it sent.
type flood struct {
	stop, done chan struct{}
	flows      map[flow.Key]epoch.Count
	total      epoch.Count
}

func startFlood(t *testing.T, device string, flows int) *flood {
	f := &flood{stop: make(chan struct{}), done: make(chan struct{}), flows: map[flow.Key]epoch.Count{}}
	packets := make([]packet, flows)
	for i := range packets {
		packets[i] = udpPacket(uint32(i), 20+i%200)
	}
	go func() {
		defer close(f.done)
		const burst = 100
		for n := 0; n < 20_000; n++ { // a bound, should the test hang
			var frames [][]byte
			for i := range burst {
				p := &packets[(n*burst+i)%flows]
				frames = append(frames, p.data)
				c := epoch.Count{Packets: 1, Bytes: uint64(len(p.data))}
				f.total.Add(c)
				c.Add(f.flows[p.key])
				f.flows[p.key] = c
			}
			send(t, device, frames...)
			select {
			case <-f.stop:
				return
			case <-time.After(500 * time.Microsecond):
			}
		}
		t.Error("the traffic ended before the test")
	}()
	return f
}

func (f *flood) end() { close(f.stop); <-f.done }

// check compares what the reader has with what was sent, flow by flow.
func (f *flood) check(t *testing.T, r *reader) {
	t.Helper()
	flows, total := r.flows()
	if total != f.total {
		t.Errorf("in %d epochs %v, sent %v", len(r.messages), total, f.total)
	}
	if !maps.Equal(flows, f.flows) {
		t.Errorf("flows differ: %d, sent %d", len(flows), len(f.flows))
	}
}

// A run is ended at each moment of an epoch, under traffic that overflows the cache:
// no byte is lost, and none counted twice, of any flow.
func TestKilledAtEveryMoment(t *testing.T) {
	for name, clsact := range hooks {
		t.Run(name, func(t *testing.T) {
			testutil.InNamespace(t, func(t *testing.T) {
				addVeth(t, "eth0", "wire0")
				config := hookConfig(clsact)
				config.PinPath, config.Memory = filepath.Join(mountBPF(t), "tma"), 48<<20
				r := &reader{t: t, messages: map[uint64][]byte{}}
				r.live(config, moments, 2)
				f := startFlood(t, "wire0", 10_000)
				for n := range 2 {
					for m := range moments {
						r.live(config, m, 1+2*n)
					}
				}
				f.end()
				r.live(config, moments, 3)
				f.check(t, r)
				checkDetach(t, config.PinPath, 1)
				if qdisc, filters := clsactOf(t, indexOf(t, "eth0")); qdisc || filters != 0 {
					t.Errorf("afterwards clsact %t with %d filters", qdisc, filters)
				}
			})
		})
	}
}

// checkDetach detaches, which leaves nothing, and does so again, which changes nothing.
func checkDetach(t *testing.T, path string, devices int) {
	t.Helper()
	for _, want := range []int{devices, 0} {
		if got, err := Detach(path); err != nil || got != want {
			t.Errorf("detached from %d devices, %v, want %d", got, err, want)
		}
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", path, err)
	}
}

// Other layouts replace each other under traffic, some of them killed before or after
// the epoch that takes the old one's counts over.
func TestAnotherLayoutTakesOver(t *testing.T) {
	testutil.InNamespace(t, func(t *testing.T) {
		addVeth(t, "eth0", "wire0")
		config := hookConfig(false)
		config.PinPath = filepath.Join(mountBPF(t), "tma")
		r := &reader{t: t, messages: map[uint64][]byte{}}
		config.Memory = 48 << 20
		r.live(config, moments, 2)
		f := startFlood(t, "wire0", 10_000)
		for i, end := range []moment{moments, moments, booked, committed, booked, booked, cleared, swapped} {
			config.Memory = []uint64{64 << 20, 48 << 20, 56 << 20}[i%3]
			r.live(config, end, 1+i%2)
		}
		f.end()
		r.live(config, moments, 2)
		f.check(t, r)
		entries, err := filepath.Glob(filepath.Join(config.PinPath, mapsDirectory+"*"))
		if err != nil || len(entries) != 1 {
			t.Errorf("sets of maps %v, want one", entries)
		}
		checkDetach(t, config.PinPath, 1)
	})
}

// Devices that went, came, were renamed or don't match any more while no exporter ran.
func TestDevicesChangeBetweenRuns(t *testing.T) {
	for name, clsact := range hooks {
		t.Run(name, func(t *testing.T) {
			testutil.InNamespace(t, func(t *testing.T) {
				for i := range 4 {
					addVeth(t, fmt.Sprint("eth", i), fmt.Sprint("wire", i))
				}
				config := hookConfig(clsact)
				config.PinPath, config.Memory = filepath.Join(mountBPF(t), "tma"), 16<<20
				r := &reader{t: t, messages: map[uint64][]byte{}}
				r.live(config, moments, 3)
				frames, once := somePackets(10)
				for i := range 4 {
					send(t, fmt.Sprint("wire", i), frames...)
				}
				must(t, netlink.LinkDel(linkByName(t, "eth0")))
				must(t, netlink.LinkSetName(linkByName(t, "eth1"), "eth7"))
				addVeth(t, "eth5", "wire5")
				config.Exclude = regexp.MustCompile("^eth2$")
				r.live(config, moments, 8)
				for _, i := range []int{1, 2, 3, 5} {
					send(t, fmt.Sprint("wire", i), frames...)
				}
				r.live(config, moments, 2)
				got := r.devices()
				twice := once
				twice.Add(once)
				want := map[string]epoch.Count{"eth0": once, "eth1": once, "eth7": once, "eth2": once, "eth3": twice, "eth5": once}
				if maps.DeleteFunc(got, func(_ string, c epoch.Count) bool { return c == epoch.Count{} }); !maps.Equal(got, want) {
					t.Errorf("devices saw %v, want %v", got, want)
				}
				checkDetach(t, config.PinPath, 3)
			})
		})
	}
}

// devices adds up what came in, by device.
func (r *reader) devices() map[string]epoch.Count {
	all := map[string]epoch.Count{}
	for _, message := range r.messages {
		batch, err := epoch.DecodeBatch(epoch.EncodeBatch([16]byte{1}, 1, 1, [][]byte{message}))
		must(r.t, err)
		for _, d := range batch.Epochs[0].Devices {
			if d.Direction == flow.Ingress {
				c := all[d.Name]
				c.Add(d.Total)
				all[d.Name] = c
			}
		}
	}
	return all
}

func TestPinPathErrors(t *testing.T) {
	testutil.InNamespace(t, func(t *testing.T) {
		path := filepath.Join(mountBPF(t), "tma")
		config := Config{Epoch: time.Second, Memory: 16 << 20, PinPath: path, JournalMemory: 1 << 20}
		c, err := New(config, slog.New(slog.DiscardHandler))
		must(t, err)
		if _, err := New(config, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "in use by another tma-exporter") {
			t.Errorf("a second exporter: %v", err)
		}
		if _, err := Detach(path); err == nil || !strings.Contains(err.Error(), "in use by another tma-exporter") {
			t.Errorf("detach under a running exporter: %v", err)
		}
		must(t, c.Close())
		other := testutil.Namespace(t)
		must(t, other.Do(func() error {
			if _, err := New(config, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another network namespace") {
				t.Errorf("an exporter in another namespace: %v", err)
			}
			return nil
		}))
		checkDetach(t, path, 0)
		config.PinPath = t.TempDir()
		if _, err := New(config, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "isn't in a BPF file system") {
			t.Errorf("on another file system: %v", err)
		}
		if left, _ := os.ReadDir(config.PinPath); len(left) != 0 {
			t.Errorf("left %v there", left)
		}
	})
}
