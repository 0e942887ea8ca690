package fold

// numbered is a prefix with the number of what it belongs to.
type numbered struct {
	prefix
	number uint32
}

// sorter sorts prefixes by their bytes, least significant first, in time that is
// linear however they were crafted. It keeps its memory.
type sorter struct{ items, other []numbered }

// sort orders the items, equal ones as they were.
func (s *sorter) sort() {
	if len(s.items) < 2 {
		return
	}
	s.other = append(s.other[:0], s.items...)
	// Bytes in which all prefixes agree, such as the twelve before an IPv4
	// address, need no pass.
	var differ prefix
	first := s.items[0].prefix
	for i := range s.items {
		differ[0] |= s.items[i].prefix[0] ^ first[0]
		differ[1] |= s.items[i].prefix[1] ^ first[1]
	}
	for _, word := range []int{1, 0} {
		for shift := 0; shift < 64; shift += 8 {
			if differ[word]>>shift&0xff != 0 {
				s.pass(word, shift)
			}
		}
	}
}

// pass orders the items by one byte: that of a word of the prefix, from a bit on.
func (s *sorter) pass(word, shift int) {
	var next [256]uint32
	for i := range s.items {
		next[uint8(s.items[i].prefix[word&1]>>(shift&63))]++
	}
	sum := uint32(0)
	for i, n := range next {
		next[i], sum = sum, sum+n
	}
	to := s.other[:len(s.items)]
	for i := range s.items {
		digit := uint8(s.items[i].prefix[word&1] >> (shift & 63))
		to[next[digit]] = s.items[i]
		next[digit]++
	}
	s.items, s.other = to, s.items
}
