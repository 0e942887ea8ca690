package capture

import (
	"fmt"
	"math/bits"
	"os"
	"unsafe"

	"github.com/traffic-monitor-agent/tma/bpf"
	"github.com/traffic-monitor-agent/tma/internal/fold"
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

	waysPerSet    = 2
	ladderEntries = 1024
)

// Layout is how the memory budget is split between the kernel's maps and the
// tables of user space.
type Layout struct {
	CPUs         int // possible ones
	Sets         int // of a CPU's half of the cache; a power of two
	Devices      int // the first of them stands for unknown ones
	RingBytes    int // a power of two
	TableEntries int
	JournalBytes int // for messages, besides the budget; a power of two, 0 without a pin path
}

// newLayout gives the ring a quarter of the budget, so that it holds a second of
// 230,000 evictions by default, the cache at most a quarter, the counters at most
// an eighth, and the flow table three eighths.
func newLayout(budget uint64, cpus int) (Layout, error) {
	const slotBytes, counterBytes = int(unsafe.Sizeof(bpf.CaptureSlot{})), int(unsafe.Sizeof(bpf.CaptureCounters{}))
	total := int(budget)
	slots := min(maxSlots, floorPowerOfTwo(total/4/(2*cpus*slotBytes)))
	devices := min(maxDevices, total/8/(2*cpus*2*counterBytes))
	ring := floorPowerOfTwo(total / 4)
	if slots < minSlots || devices < minDevices || ring < os.Getpagesize() {
		return Layout{}, fmt.Errorf("capture.memory: %d bytes are too few for %d CPUs", budget, cpus)
	}
	return Layout{
		CPUs:         cpus,
		Sets:         slots / waysPerSet,
		Devices:      devices,
		RingBytes:    ring,
		TableEntries: total * 3 / 8 / fold.EntryBytes,
	}, nil
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

// cacheSlots is the number of slots of all CPUs in one half.
func (l *Layout) cacheSlots() int { return l.CPUs * l.cpuSlots() }
