package capture

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/traffic-monitor-agent/tma/bpf"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// A pin path has a directory for the links, by device and direction, and one for
// each set of maps. There is more than one set only from the start of a run with
// another layout until its first epoch is committed.
const (
	linksDirectory = "links"
	mapsDirectory  = "maps-" // and a number that grows
	journalFile    = "journal"
)

// pinnedMaps are the maps that are pinned, with their file names: a BPF file system
// takes no dots.
var pinnedMaps = map[string]string{
	bpf.CaptureMapCache:          "cache",
	bpf.CaptureMapPointCounters:  "point_counters",
	bpf.CaptureMapEvictions:      "evictions",
	bpf.CaptureMapDevices:        "devices",
	bpf.CaptureMapDistantDevices: "distant_devices",
	".bss":                       "bss",
	".rodata":                    "rodata",
}

// pins is a directory in a BPF file system that belongs to this process alone. A nil
// *pins is that of a run that pins nothing.
type pins struct {
	path string
	lock *os.File
}

// openPins makes the directory if needed and locks it. The kernel drops the lock
// with the process.
func openPins(path string) (*pins, error) {
	if err := os.MkdirAll(filepath.Join(path, linksDirectory), 0o700); err != nil {
		if !inBPFFS(path) {
			return nil, notInBPFFS(path)
		}
		return nil, fmt.Errorf("make the pin path: %w", err)
	}
	if !inBPFFS(path) {
		return nil, errors.Join(notInBPFFS(path), os.Remove(filepath.Join(path, linksDirectory)))
	}
	return lockPins(path)
}

func lockPins(path string) (*pins, error) {
	lock, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the pin path: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("pin path %s is in use by another tma-exporter", path)
		}
		return nil, fmt.Errorf("lock the pin path: %w", err)
	}
	return &pins{path, lock}, nil
}

func notInBPFFS(path string) error {
	return fmt.Errorf("pin path %s isn't in a BPF file system; allowed: a directory in one, such as /sys/fs/bpf/tma (mount -t bpf bpf /sys/fs/bpf)", path)
}

// inBPFFS tells whether the path, or the part of it that exists, is.
func inBPFFS(path string) bool {
	for ; ; path = filepath.Dir(path) {
		var info unix.Statfs_t
		err := unix.Statfs(path, &info)
		if !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
			return err == nil && info.Type == unix.BPF_FS_MAGIC
		}
	}
}

func (p *pins) close() error {
	if p == nil {
		return nil
	}
	return p.lock.Close()
}

// link is the file of a link.
func (p *pins) link(index int, direction flow.Direction) string {
	return filepath.Join(p.path, linksDirectory, fmt.Sprintf("%d-%s", index, direction))
}

// eachLink calls f with each pinned link's file and device.
func (p *pins) eachLink(f func(file string, index int) error) error {
	entries, err := os.ReadDir(filepath.Join(p.path, linksDirectory))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list the pinned links: %w", err)
	}
	for _, entry := range entries {
		number, _, _ := strings.Cut(entry.Name(), "-")
		index, err := strconv.Atoi(number)
		if err != nil {
			continue // nothing of ours
		}
		if err := f(filepath.Join(p.path, linksDirectory, entry.Name()), index); err != nil {
			return err
		}
	}
	return nil
}

// unpinLink detaches what a link's file holds.
func unpinLink(file string) error {
	l, err := link.LoadPinnedLink(file, nil)
	if err != nil {
		return fmt.Errorf("open the pinned link %s: %w", file, err)
	}
	return errors.Join(l.Unpin(), l.Close())
}

// generation is a set of maps that were made together.
type generation struct {
	number  int
	path    string
	maps    map[string]*ebpf.Map // by their names in the object
	memory  *ebpf.Map            // of the journal
	journal *journal
	mapped  []byte
}

// generations opens the sets of maps, oldest first. Those that weren't completed, and
// those older than one with a committed epoch, which has taken them over, go.
func (p *pins) generations() (all []*generation, err error) {
	numbers, err := p.numbers()
	if err != nil {
		return nil, err
	}
	for _, number := range numbers {
		g := p.generation(number)
		if err := g.open(); err != nil {
			return nil, errors.Join(err, closeGenerations(all))
		}
		if g.journal == nil {
			err = errors.Join(err, g.remove())
			continue
		}
		if g.counted() {
			err = errors.Join(err, removeGenerations(all))
			all = nil
		}
		all = append(all, g)
	}
	return all, err
}

// counted says whether an epoch of the generation's own is committed.
func (g *generation) counted() bool {
	return g.journal.header.committed.Load() != g.journal.header.inherited
}

func (p *pins) generation(number int) *generation {
	return &generation{number: number, path: filepath.Join(p.path, mapsDirectory+strconv.Itoa(number)), maps: map[string]*ebpf.Map{}}
}

// numbers lists the generations, oldest first.
func (p *pins) numbers() ([]int, error) {
	entries, err := os.ReadDir(p.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the pinned maps: %w", err)
	}
	var numbers []int
	for _, entry := range entries {
		if text, ok := strings.CutPrefix(entry.Name(), mapsDirectory); ok {
			if number, err := strconv.Atoi(text); err == nil {
				numbers = append(numbers, number)
			}
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// open opens the maps. The journal is pinned last: without it the generation isn't
// complete, and never counted.
func (g *generation) open() error {
	memory, err := ebpf.LoadPinnedMap(filepath.Join(g.path, journalFile), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open the pinned journal: %w", err)
	}
	g.memory = memory
	for name, file := range pinnedMaps {
		if g.maps[name], err = ebpf.LoadPinnedMap(filepath.Join(g.path, file), nil); err != nil {
			return errors.Join(fmt.Errorf("open the pinned map %s: %w", name, err), g.close())
		}
	}
	if err := g.mapJournal(); err != nil {
		return errors.Join(err, g.close())
	}
	var ok bool
	if g.journal, ok = overlay(g.mapped); !ok {
		return errors.Join(fmt.Errorf("%s was pinned by another version of tma-exporter; remove it by: tma-exporter detach --capture.pin-path=%s", g.path, filepath.Dir(g.path)), g.close())
	}
	return nil
}

func (g *generation) mapJournal() (err error) {
	size := int(g.memory.MaxEntries()) * int(g.memory.ValueSize())
	g.mapped, err = unix.Mmap(g.memory.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map the journal into memory: %w", err)
	}
	return nil
}

// create pins the maps of a new generation and makes its journal, which prepare fills
// before it counts.
func (g *generation) create(layout Layout, prepare func(*journal)) error {
	page := os.Getpagesize()
	var err error
	g.memory, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "tma_journal", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(page), Flags: unix.BPF_F_MMAPABLE,
		MaxEntries: uint32((journalSize(layout.Devices, layout.JournalBytes) + page - 1) / page),
	})
	if err != nil {
		return fmt.Errorf("make the journal: %w", err)
	}
	if err := g.mapJournal(); err != nil {
		return err
	}
	g.journal = create(g.mapped, layout)
	prepare(g.journal)
	if err := os.Mkdir(g.path, 0o700); err != nil {
		return fmt.Errorf("make a directory for the maps: %w", err)
	}
	for name, file := range pinnedMaps {
		if err := g.maps[name].Pin(filepath.Join(g.path, file)); err != nil {
			return fmt.Errorf("pin the map %s: %w", name, err)
		}
	}
	if err := g.memory.Pin(filepath.Join(g.path, journalFile)); err != nil {
		return fmt.Errorf("pin the journal: %w", err)
	}
	return nil
}

// close gives the maps up; they stay pinned.
func (g *generation) close() error {
	var all []error
	for _, m := range g.maps {
		all = append(all, m.Close())
	}
	if g.mapped != nil {
		all = append(all, unix.Munmap(g.mapped))
	}
	g.journal, g.mapped = nil, nil
	return errors.Join(append(all, g.memory.Close())...)
}

// remove removes what is pinned, the journal last, as it makes the rest count.
func (g *generation) remove() error { return errors.Join(g.close(), removeMaps(g.path)) }

// removeMaps removes a directory of maps, the journal first: what is left of it if
// that is interrupted isn't complete.
func removeMaps(path string) error {
	if err := os.Remove(filepath.Join(path, journalFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what is pinned: %w", err)
	}
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("remove what is pinned: %w", err)
	}
	return nil
}

func closeGenerations(all []*generation) error {
	var errs []error
	for _, g := range all {
		errs = append(errs, g.close())
	}
	return errors.Join(errs...)
}

func removeGenerations(all []*generation) error {
	var errs []error
	for _, g := range all {
		errs = append(errs, g.remove())
	}
	return errors.Join(errs...)
}

// fingerprint is equal for objects and layouts that can use each other's maps: those
// with the same maps and variables.
func fingerprint(spec *ebpf.CollectionSpec) [32]byte {
	var lines []string
	for name, m := range spec.Maps {
		lines = append(lines, fmt.Sprint("map ", name, m.Type, m.KeySize, m.ValueSize, m.MaxEntries, m.Flags))
	}
	for name, v := range spec.Variables {
		lines = append(lines, fmt.Sprint("variable ", name, v.SectionName, v.Offset, v.Size()))
	}
	slices.Sort(lines)
	return sha256.Sum256([]byte(strings.Join(lines, "\n")))
}

// namespaceCookie tells one network namespace from all others since boot.
func namespaceCookie() (uint64, error) {
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open a socket: %w", err)
	}
	defer unix.Close(socket)
	cookie, err := unix.GetsockoptUint64(socket, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("identify the network namespace: %w", err)
	}
	return cookie, nil
}
