package capture

import (
	"fmt"
	"math/bits"
	"os"
	"unsafe"

	"github.com/traffic-monitor-agent/tma/bpf"
	"github.com/traffic-monitor-agent/tma/internal/fold"
	"github.com/traffic-monitor-agent/tma/internal/sketch/cms"
)

const (
	// maxSlots is a CPU's share of the cache, in one half: as much as stays in
	// its L2 cache. More slots cost time: 4,096 cost 50 ns a packet at 100,000
	// flows where 131,072 cost 195.
	maxSlots = 4096
	minSlots = 64

	// maxDevices bounds the devices that are counted under their own name; those
	// beyond it count as one.
	maxDevices = 512
	minDevices = 16

	waysPerSet = 2

	// maxLadderEntries is the room of a level of the ladders: simulated with as
	// many, every prefix of 0.3 % of a flood was found.
	maxLadderEntries = 1024

	// flowsPerColumn is how many entries of the flow table there are for each
	// column of the sketch of folded flows: about as many are folded at most.
	flowsPerColumn = 16
)

// Layout is how the memory budget is split between the kernel's maps and the
// tables of user space.
type Layout struct {
	CPUs         int // possible ones
	Sets         int // of a CPU's half of the cache; a power of two
	Devices      int // the first of them stands for unknown ones
	RingBytes    int // a power of two
	TableEntries int
	Ladder       int // entries of a level
	JournalBytes int // for messages, besides the budget; a power of two, 0 without a pin path
}

// newLayout gives the ring a quarter of the budget, so that it holds a second of
// 230,000 evictions by default, the cache at most a quarter, the counters at most
// an eighth, and the tables of user space the rest but a thirty-second, for what is
// rounded up to pages.
func newLayout(budget uint64, cpus int) (Layout, error) {
	const slotBytes, counterBytes = int(unsafe.Sizeof(bpf.CaptureSlot{})), int(unsafe.Sizeof(bpf.CaptureCounters{}))
	total := int(budget)
	slots := min(maxSlots, floorPowerOfTwo(total/4/(2*cpus*slotBytes)))
	devices := min(maxDevices, total/8/(2*cpus*2*counterBytes))
	ring := floorPowerOfTwo(total / 4)
	if slots < minSlots || devices < minDevices || ring < os.Getpagesize() {
		return Layout{}, fmt.Errorf("capture.memory: %d bytes are too few for %d CPUs", budget, cpus)
	}
	l := Layout{
		CPUs:      cpus,
		Sets:      slots / waysPerSet,
		Devices:   devices,
		RingBytes: ring,
		Ladder:    min(maxLadderEntries, floorPowerOfTwo(total/(16<<10))),
	}
	l.TableEntries = l.fitTable(total - total/32)
	return l, nil
}

// fitTable returns how many entries the flow table may have. There is always room
// for some: at least a quarter of the budget is left when the kernel has its part.
func (l Layout) fitTable(total int) int {
	ledger := l.ledger()
	left := total - l.kernelBytes() - ledger.Bytes()
	return left / (fold.EntryBytes + cms.CellBytes*2/flowsPerColumn)
}

// kernelBytes is the memory of the maps whose size the layout decides.
func (l *Layout) kernelBytes() int { return l.RingBytes + l.cacheBytes() + l.counterBytes() }

func (l *Layout) cacheBytes() int { return 2 * l.cacheSlots() * int(unsafe.Sizeof(bpf.CaptureSlot{})) }

func (l *Layout) counterBytes() int {
	return 2 * l.halfCounters() * int(unsafe.Sizeof(bpf.CaptureCounters{}))
}

// ledger returns the sizes of the tables of user space.
func (l *Layout) ledger() fold.LedgerConfig {
	return fold.LedgerConfig{
		Entries:       l.TableEntries,
		LadderEntries: l.Ladder,
		SketchWidth:   floorPowerOfTwo(l.TableEntries / flowsPerColumn),
		Points:        l.points(),
	}
}

// Bytes is the memory of kernel maps and tables together.
func (l *Layout) Bytes() int {
	ledger := l.ledger()
	return l.kernelBytes() + ledger.Bytes()
}

// uses lists what Bytes consists of.
func (l *Layout) uses() []MemoryUse {
	table := l.TableEntries * fold.EntryBytes
	return []MemoryUse{
		{"cache", l.cacheBytes()},
		{"counters", l.counterBytes()},
		{"ring", l.RingBytes},
		{"flow_table", table},
		{"ladders_and_sketches", l.Bytes() - l.kernelBytes() - table},
	}
}

// floorPowerOfTwo returns the greatest power of two that is at most n, 0 for 0.
func floorPowerOfTwo(n int) int {
	if n <= 0 {
		return 0
	}
	return 1 << (bits.Len(uint(n)) - 1)
}

// points is the number of observation points, two for each device.
func (l *Layout) points() int { return 2 * l.Devices }

// stageSlots is the size of what is behind the sets of a CPU's half, in slots.
const stageSlots = int(unsafe.Sizeof(bpf.CaptureStage{}) / unsafe.Sizeof(bpf.CaptureSlot{}))

// cpuSlots is the number of slots of one CPU in one half.
func (l *Layout) cpuSlots() int { return l.Sets*waysPerSet + stageSlots }

// halfCounters is the number of counters of all CPUs in one half.
func (l *Layout) halfCounters() int { return l.CPUs * l.points() }

// cacheSlots is the number of slots of all CPUs in one half.
func (l *Layout) cacheSlots() int { return l.CPUs * l.cpuSlots() }
