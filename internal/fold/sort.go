package fold

// numbered is a prefix with the number of what it belongs to.
type numbered struct {
	prefix
	number uint32
}

// sorter sorts prefixes by their bytes, least significant first, in time that is
// linear however they were crafted. It keeps its memory.
type sorter struct{ items, other []numbered }

// add appends an item.
func (s *sorter) add(p prefix, number uint32) {
	n := len(s.items)
	if n == cap(s.items) {
		s.items = append(s.items, numbered{p, number})
		return
	}
	s.items = s.items[:n+1] // see appendSum
	item := &s.items[n]
	item.high, item.low, item.number = p.high, p.low, number
}

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
		differ.high |= s.items[i].high ^ first.high
		differ.low |= s.items[i].low ^ first.low
	}
	for shift := uint(0); shift < 128; shift += 8 {
		if uint8(differ.from(shift)) != 0 {
			s.pass(shift)
		}
	}
}

// pass orders the items by the byte that begins at a bit, counted from the last.
func (s *sorter) pass(shift uint) {
	var next [256]uint32
	for i := range s.items {
		next[uint8(s.items[i].from(shift))]++
	}
	sum := uint32(0)
	for i, n := range next {
		next[i], sum = sum, sum+n
	}
	to := s.other[:len(s.items)]
	for i := range s.items {
		item := &s.items[i]
		digit := uint8(item.from(shift))
		at := &to[next[digit]]
		at.high, at.low, at.number = item.high, item.low, item.number
		next[digit]++
	}
	s.items, s.other = to, s.items
}
