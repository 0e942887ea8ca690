package fold

// forgotten remembers at which point flows were counted that gave up their place
// in the table. The kernel hands over what each point of a host saw at a time of
// its own: when the uplink's packets of a flow were folded, those of the bridge
// behind it come later, and must not count again.
//
// It is a table without collision handling: of two flows for one place the later
// one stays. A flow that is taken for another one, with which it shares place and
// tag, happens once in 2^32 looks, and counts as a duplicate for an epoch then.
type forgotten struct{ flows []forgottenFlow }

type forgottenFlow struct {
	tag   uint32
	epoch uint16 // the lower bits of the number of the last one with traffic
	point uint16
}

// forgottenBytes is the memory that is needed for a table entry at most.
const forgottenBytes = 16

// newForgotten has a place for every table entry, or up to two.
func newForgotten(entries int) forgotten {
	n := 1
	for n < entries {
		n *= 2
	}
	return forgotten{newArray[forgottenFlow](n)}
}

func (f *forgotten) free() { freeArray(f.flows); f.flows = nil }

func (f *forgotten) place(identity uint64) *forgottenFlow {
	return &f.flows[identity>>32&uint64(len(f.flows)-1)]
}

// add remembers where a flow was counted, and the last epoch in which it had
// traffic there.
func (f *forgotten) add(identity uint64, point uint16, epoch uint32) {
	*f.place(identity) = forgottenFlow{max(1, uint32(identity)), uint16(epoch), point}
}

// point returns where a flow was counted whose primary would still be that one
// now, in the epoch behind the one of the number.
func (f *forgotten) point(identity uint64, epoch uint32) (point uint16, ok bool) {
	p := f.place(identity)
	return p.point, p.tag == max(1, uint32(identity)) && uint16(epoch)-p.epoch <= primaryIdle
}
