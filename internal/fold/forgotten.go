package fold

import (
	"math"
	"math/bits"
	"unsafe"
)

// forgotten remembers at which point flows were counted that gave up their place
// in the table. The kernel hands over what each point of a host saw at a time of
// its own: when the uplink's packets of a flow were folded, those of the bridge
// behind it come later, and must not count again.
//
// It is set-associative, a set of it for each set of the table. What is too old to
// matter goes first, then what came first; and the set keeps how many bytes the
// flows had counted that went although they still mattered, and where, so that it is
// known what of a flow that nobody remembers may have been counted before.
//
// A flow that is taken for another one, with which it shares set and tag, happens
// once in 2^32 / forgottenWays looks, and counts as a duplicate for an epoch then.
type forgotten struct {
	sets []forgottenSet
	// unknown is the number of the last epoch of which flows may have been counted
	// that aren't here and that no set has lost.
	unknown uint32
}

const (
	// forgottenWays is the number of flows that a set of the table has room for
	// here: as many as fit three cache lines.
	forgottenWays = 12
	// lostEpochs is of how many epochs a set keeps what it lost: of the two that
	// are counted at a time and the one before.
	lostEpochs = 3
	// lostPoints is of how many points a set keeps apart what was counted there.
	lostPoints = 2
)

// forgottenSet is three cache lines.
type forgottenSet struct {
	newest uint32 // number of the epoch whose losses are the first
	// lost is how many bytes were counted, by age, of flows that went: at points[0],
	// at points[1], and anywhere. The greatest number is any.
	lost   [lostPoints + 1][lostEpochs]uint32
	points [lostPoints]uint16
	next   uint32 // way that goes next
	flows  [forgottenWays]forgottenFlow
}

// forgottenFlow is a flow and its primary.
type forgottenFlow struct {
	tag     uint32
	counted [1 + primaryIdle]size16 // there, in its last epoch and the one before
	point   uint16
	epoch   uint8 // the lower bits of the number of the last one with traffic there
	doubt   uint8 // see entry.doubt
}

// forgottenBytes is the memory that is needed for a table entry.
const forgottenBytes = int(unsafe.Sizeof(forgottenSet{})) / tableWays

// longAgo is the number of an epoch that matters no more.
const longAgo = ^uint32(0) - primaryIdle

func newForgotten(tableSets int) forgotten {
	return forgotten{sets: newArray[forgottenSet](tableSets), unknown: longAgo}
}

func (f *forgotten) free() { freeArray(f.sets); f.sets = nil }

// find returns the flow of a tag, nil if it isn't there. One that is there was never
// lost, though it may not matter any more.
func (f *forgotten) find(set int, tag uint32) *forgottenFlow {
	s := &f.sets[set]
	for i := range s.flows {
		if p := &s.flows[i]; p.tag == tag {
			return p
		}
	}
	return nil
}

// matters says whether the flow may have packets in the epoch, or later, that were
// counted. Its own may be the one behind that. Of a flow that wasn't looked at for
// 256 epochs, or a multiple, this is wrong, and it stays in its place for longer.
func (p *forgottenFlow) matters(epoch uint32) bool {
	return p.tag != 0 && uint8(epoch)+1-p.epoch <= 1+primaryIdle
}

// last returns the number of the flow's last epoch, from that of an epoch nearby.
func (p *forgottenFlow) last(nearby uint32) uint32 {
	return nearby + uint32(int8(p.epoch-uint8(nearby)))
}

// note remembers that a flow counted so many bytes at a point in an epoch. oldest
// is the number of the oldest epoch that is still counted.
func (f *forgotten) note(set int, tag uint32, point uint16, doubt uint8, epoch, oldest uint32, bytes uint64) {
	s := &f.sets[set]
	p := s.place(tag, oldest)
	if p.tag != tag || !p.matters(oldest) {
		s.lose(p, oldest)
		*p = forgottenFlow{tag: tag, epoch: uint8(epoch)}
	}
	switch int8(uint8(epoch) - p.epoch) {
	case 0:
		p.counted[0] = p.counted[0].plus(bytes)
	case -1:
		p.counted[1] = p.counted[1].plus(bytes)
	case 1:
		p.counted, p.epoch, p.doubt = [...]size16{size16(0).plus(bytes), p.counted[0]}, uint8(epoch), 0
	default:
		p.counted, p.epoch, p.doubt = [...]size16{size16(0).plus(bytes), 0}, uint8(epoch), 0
	}
	p.point, p.doubt = point, max(doubt, p.doubt)
}

// place returns the flow's place, or the one that goes for it.
func (s *forgottenSet) place(tag, oldest uint32) *forgottenFlow {
	var free *forgottenFlow
	for i := range s.flows {
		p := &s.flows[i]
		if p.tag == tag {
			return p
		}
		if free == nil && !p.matters(oldest) {
			free = p
		}
	}
	if free == nil {
		free = &s.flows[s.next%forgottenWays]
		s.next++
	}
	return free
}

// lose forgets a flow for good.
func (s *forgottenSet) lose(p *forgottenFlow, oldest uint32) {
	if !p.matters(oldest) {
		return
	}
	epoch := p.last(oldest)
	s.loseBytes(p.point, epoch, p.counted[0].bytes())
	s.loseBytes(p.point, epoch-1, p.counted[1].bytes())
}

// loseBytes notes that nobody remembers any more which flows' bytes of an epoch
// were counted at a point.
func (s *forgottenSet) loseBytes(point uint16, epoch uint32, bytes uint64) {
	if bytes == 0 {
		return
	}
	s.advance(epoch)
	// What is older than all that are kept is kept for longer than it needs to be.
	lost := &s.lost[s.lostAt(point)][min(s.newest-epoch, lostEpochs-1)]
	*lost = uint32(min(uint64(*lost)+bytes, math.MaxUint32))
}

// advance makes room for the losses of an epoch.
func (s *forgottenSet) advance(epoch uint32) {
	for steps := lostEpochs; int32(epoch-s.newest) > 0; steps-- {
		if steps == 0 {
			s.newest = epoch // nothing that is left was of its neighbours
			return
		}
		s.newest++
		for i := range s.lost {
			copy(s.lost[i][1:], s.lost[i][:])
			s.lost[i][0] = 0
		}
	}
}

// lostAt returns where the losses of flows are that were counted at a point.
func (s *forgottenSet) lostAt(point uint16) int {
	for i := range s.points {
		if s.points[i] == point {
			return i
		}
	}
	for i := range s.points {
		if s.lost[i] == [lostEpochs]uint32{} {
			s.points[i] = point
			return i
		}
	}
	return lostPoints
}

// lost returns how many bytes of an unknown flow of the set may have been counted
// that pass a point in an epoch: at another one, from primaryIdle epochs before it
// on. MaxUint64 is any number.
func (f *forgotten) lost(set int, point uint16, epoch uint32) (bytes uint64) {
	if int32(epoch-f.unknown) <= primaryIdle {
		return math.MaxUint64
	}
	s := &f.sets[set]
	for i := range s.lost {
		if i < lostPoints && s.points[i] == point {
			continue
		}
		for age, lost := range s.lost[i] {
			if int32(epoch-s.newest)+int32(age) > primaryIdle {
				break
			}
			if lost == math.MaxUint32 {
				return math.MaxUint64
			}
			bytes += uint64(lost)
		}
	}
	return bytes
}

// size16 is a number of bytes, rounded up: five bits of exponent and eleven behind
// the leading one, so that it is exact up to 4,096 and by 0.05 % too large at most
// beyond. It orders as what it means.
type size16 uint16

const sizeMantissa = 11

// plus returns the sum, at most the greatest size.
func (s size16) plus(bytes uint64) size16 {
	sum := s.bytes() + bytes
	if sum < 1<<sizeMantissa {
		return size16(sum)
	}
	shift := bits.Len64(sum) - 1 - sizeMantissa
	sum = (sum + 1<<shift - 1) >> shift // may be a power of two now
	return size16(min(sum+uint64(shift)<<sizeMantissa, math.MaxUint16))
}

func (s size16) bytes() uint64 {
	exponent := s >> sizeMantissa
	if exponent == 0 {
		return uint64(s)
	}
	return (uint64(s)&(1<<sizeMantissa-1) | 1<<sizeMantissa) << (exponent - 1)
}

// size8 is a size16 of three bits behind the leading one.
type size8 uint8

// anySize is of what isn't known; its bytes are more than a set's losses can hold.
const anySize size8 = math.MaxUint8

func (s size16) short() size8 { return size8(min(uint32(s)+0xff, math.MaxUint16) >> 8) }

func (s size8) bytes() uint64 { return (size16(s) << 8).bytes() }
