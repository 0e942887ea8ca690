package fold

// tagFilter tells which flows were surely not folded in an epoch: a word of bits for
// each set of the table, as a Bloom filter with one hash, the flow's tag. A flow that
// was neither folded nor shares its bit with one that was has no error, and the
// Count-Min sketch, four places of memory and never quite zero, isn't asked.
type tagFilter []uint64

// tagFilterBytes is the memory that is needed for a set.
const tagFilterBytes = 8

func newTagFilter(sets int) tagFilter { return newArray[uint64](sets) }

// add notes that a flow was folded out of a set. Of its tag the bits count that
// don't choose among the few sets.
func (f tagFilter) add(set int, tag uint32) { f[set] |= 1 << (tag >> 26) }

// has says whether such a flow may have been folded.
func (f tagFilter) has(set int, tag uint32) bool { return f[set]>>(tag>>26)&1 != 0 }
