package capture

import (
	"bytes"
	"encoding/binary"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/traffic-monitor-agent/tma/internal/fold"
)

// The journal is what a run leaves to the next one besides the kernel's counts. It
// is the memory of a pinned map, so it outlives the process at whatever instruction
// that is killed, and goes with the kernel.
//
// An epoch is committed by the one store of its sequence. Before that nothing is
// cleared of what it was made from: a run that is killed earlier leaves the kernel's
// counts as they were, and the next one makes the epoch again. After it the epoch's
// message is in the journal, and the next run clears what this one didn't.
type journal struct {
	header  *journalHeader
	devices []deviceRecord // by number
	data    []byte         // messages, in a circle; a power of two
}

// journalFormat is the version of everything that is pinned: the journal, its
// messages, and what slots, counters, ring and points mean. Raise it with any change to those.
const journalFormat = 2

// journalHeader is shared between runs, so its layout is fixed.
type journalHeader struct {
	format      uint64
	fingerprint [32]byte // of maps and variables
	layout      [7]uint64
	namespace   uint64 // SO_NETNS_COOKIE
	seed        [5]uint64
	boot        [16]byte
	inherited   uint64        // what committed was at first
	committed   atomic.Uint64 // sequence of the last epoch that is committed
	cleared     atomic.Uint64 // that of the last one whose counts are cleared
	tail        atomic.Uint64 // position of the oldest message that is whole
	commits     [2]commit     // by the last bit of the sequence
}

// commit is the state after an epoch.
type commit struct {
	head     uint64    // position behind the last message
	half     uint64    // that is counted in from then on
	start    int64     // Unix time in nanoseconds since when
	consumer uint64    // position in the ring: what is before it is booked
	taken    [2]uint64 // by half: records of that half before this position are booked
}

// deviceRecord says which device has a number; index 0: none.
type deviceRecord struct {
	index atomic.Uint64
	name  [16]byte // IFNAMSIZ
	kind  [16]byte
}

const journalHeaderBytes = int(unsafe.Sizeof(journalHeader{}))

// journalSize is the memory of a journal with room for so many bytes of messages.
func journalSize(devices, data int) int {
	return journalHeaderBytes + devices*int(unsafe.Sizeof(deviceRecord{})) + data
}

// overlay returns the journal that is in a memory. Its header says how large it is;
// sizes that don't fit the memory are refused.
func overlay(memory []byte) (*journal, bool) {
	if len(memory) < journalHeaderBytes {
		return nil, false
	}
	h := (*journalHeader)(unsafe.Pointer(unsafe.SliceData(memory)))
	l := h.getLayout()
	if h.format != journalFormat || l.Devices < 0 || l.Devices > len(memory) || l.JournalBytes < 0 ||
		l.JournalBytes > len(memory) || l.JournalBytes&(l.JournalBytes-1) != 0 ||
		journalSize(l.Devices, l.JournalBytes) > len(memory) {
		return nil, false
	}
	records := memory[journalHeaderBytes:]
	return &journal{
		header:  h,
		devices: unsafe.Slice((*deviceRecord)(unsafe.Pointer(unsafe.SliceData(records))), l.Devices),
		data:    memory[journalSize(l.Devices, 0):journalSize(l.Devices, l.JournalBytes)],
	}, true
}

// create writes the header of a new journal into a memory of zeros.
func create(memory []byte, layout Layout) *journal {
	h := (*journalHeader)(unsafe.Pointer(unsafe.SliceData(memory)))
	h.format = journalFormat
	h.setLayout(layout)
	j, _ := overlay(memory)
	return j
}

func (h *journalHeader) setLayout(l Layout) {
	h.layout = [...]uint64{uint64(l.CPUs), uint64(l.Sets), uint64(l.Devices), uint64(l.RingBytes), uint64(l.TableEntries), uint64(l.JournalBytes), uint64(l.Ladder)}
}

func (h *journalHeader) getLayout() Layout {
	n := &h.layout
	return Layout{CPUs: int(n[0]), Sets: int(n[1]), Devices: int(n[2]), RingBytes: int(n[3]), TableEntries: int(n[4]), JournalBytes: int(n[5]), Ladder: int(n[6])}
}

// last returns the state after the last committed epoch.
func (j *journal) last() *commit { return &j.header.commits[j.header.committed.Load()&1] }

// commit makes an epoch final: its message, and the state after it, together.
func (j *journal) commit(sequence uint64, end time.Time, message []byte, next commit) {
	next.head = j.append(j.last().head, Kept{sequence, end, message})
	j.header.commits[sequence&1] = next
	j.header.committed.Store(sequence)
}

// Kept is an epoch that an earlier run made.
type Kept struct {
	Sequence uint64
	End      time.Time
	Message  []byte // as Config.Encode returned it
}

// A message in the journal is preceded by its length, sequence and end.
const keptHeader = 24

func (k *Kept) size() uint64 { return keptHeader + (uint64(len(k.Message))+7)&^7 }

// append writes a message behind a position and returns the position behind it. The
// oldest messages make room. A message that is too long leaves the journal empty.
func (j *journal) append(head uint64, k Kept) uint64 {
	if len(k.Message) == 0 {
		return head // it couldn't be encoded
	}
	size := k.size()
	if size > uint64(len(j.data)) {
		j.header.tail.Store(head)
		return head
	}
	for head+size-j.header.tail.Load() > uint64(len(j.data)) {
		oldest := j.read(j.header.tail.Load())
		j.header.tail.Add(oldest.size())
	}
	var prefix [keptHeader]byte
	binary.NativeEndian.PutUint64(prefix[:], uint64(len(k.Message)))
	binary.NativeEndian.PutUint64(prefix[8:], k.Sequence)
	binary.NativeEndian.PutUint64(prefix[16:], uint64(k.End.UnixNano()))
	j.write(head, prefix[:])
	j.write(head+keptHeader, k.Message)
	return head + size
}

func (j *journal) write(position uint64, from []byte) {
	at := position & uint64(len(j.data)-1)
	copy(j.data, from[copy(j.data[at:], from):])
}

// bytes copies n bytes from a position.
func (j *journal) bytes(position uint64, n int) []byte {
	at := int(position & uint64(len(j.data)-1))
	b := make([]byte, n)
	copy(b[copy(b, j.data[at:]):], j.data)
	return b
}

// read returns a copy of the message at a position. Lengths are bounded by the
// journal's, whatever is there.
func (j *journal) read(position uint64) Kept {
	prefix := j.bytes(position, keptHeader)
	length := min(binary.NativeEndian.Uint64(prefix), uint64(len(j.data)-keptHeader))
	return Kept{
		Sequence: binary.NativeEndian.Uint64(prefix[8:]),
		End:      time.Unix(0, int64(binary.NativeEndian.Uint64(prefix[16:]))),
		Message:  j.bytes(position+keptHeader, int(length)),
	}
}

// kept returns copies of all messages, oldest first.
func (j *journal) kept() []Kept {
	var all []Kept
	for position, head := j.header.tail.Load(), j.last().head; position < head; {
		k := j.read(position)
		all = append(all, k)
		position += k.size()
	}
	return all
}

// inherit takes over what another journal says of the run, before this one counts.
func (j *journal) inherit(from *journal) {
	j.header.boot, j.header.seed = from.header.boot, from.header.seed
	state := commit{start: from.last().start}
	for _, k := range from.kept() {
		state.head = j.append(state.head, k)
	}
	sequence := from.header.committed.Load()
	j.header.inherited = sequence
	j.header.commits[sequence&1] = state
	j.header.committed.Store(sequence)
	j.header.cleared.Store(sequence)
}

// record notes which device has a number.
func (j *journal) record(d *device) {
	r := &j.devices[d.number]
	r.index.Store(0)
	r.name, r.kind = [16]byte{}, [16]byte{}
	copy(r.name[:], d.name)
	copy(r.kind[:], d.kind)
	r.index.Store(uint64(d.index))
}

// erase notes that no device has a number any more.
func (j *journal) erase(number int) { j.devices[number].index.Store(0) }

// recorded returns the devices that had numbers, as gone ones.
func (j *journal) recorded() []*device {
	var all []*device
	for number := range j.devices {
		if r := &j.devices[number]; r.index.Load() != 0 {
			all = append(all, &device{name: text(&r.name), kind: text(&r.kind), index: int(r.index.Load()), number: number, gone: 1})
		}
	}
	return all
}

func text(b *[16]byte) string {
	name, _, _ := bytes.Cut(b[:], []byte{0})
	return string(name)
}

// halfOf is the half that is counted in after a commit.
func (c *commit) halfOf() fold.Half { return fold.Half(c.half & 1) }
