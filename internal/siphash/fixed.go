package siphash

// The functions below return what Sum does for data of a fixed length, given as
// little-endian words, without the loops that an unknown length needs.

// Sum4 hashes 4 bytes.
func (k Key) Sum4(data uint32) uint64 {
	v0, v1, v2, v3 := k.state()
	return finish(v0, v1, v2, v3, 4<<56|uint64(data))
}

// Sum40And16s hashes 40 bytes, the first 16 of them, and the next 16. The CPU works on
// the three side by side, as none waits for another, and two of them have their
// beginning in common: that takes two thirds of the time.
func (k Key) Sum40And16s(words *[5]uint64) (all, first, second uint64) {
	const end = 16 << 56
	a0, a1, a2, a3 := k.state()
	c0, c1, c2, c3 := a0, a1, a2, a3

	a3 ^= words[0]
	c3 ^= words[2]
	a0, a1, a2, a3 = round(a0, a1, a2, a3)
	c0, c1, c2, c3 = round(c0, c1, c2, c3)
	a0 ^= words[0]
	c0 ^= words[2]

	a3 ^= words[1]
	c3 ^= words[3]
	a0, a1, a2, a3 = round(a0, a1, a2, a3)
	c0, c1, c2, c3 = round(c0, c1, c2, c3)
	a0 ^= words[1]
	c0 ^= words[3]

	b0, b1, b2, b3 := a0, a1, a2, a3
	a3 ^= words[2]
	b3 ^= end
	c3 ^= end
	a0, a1, a2, a3 = round(a0, a1, a2, a3)
	b0, b1, b2, b3 = round(b0, b1, b2, b3)
	c0, c1, c2, c3 = round(c0, c1, c2, c3)
	a0 ^= words[2]
	b0 ^= end
	c0 ^= end

	a3 ^= words[3]
	b2 ^= 0xff
	c2 ^= 0xff
	a0, a1, a2, a3 = round(a0, a1, a2, a3)
	b0, b1, b2, b3 = round(b0, b1, b2, b3)
	c0, c1, c2, c3 = round(c0, c1, c2, c3)
	a0 ^= words[3]

	a3 ^= words[4]
	a0, a1, a2, a3 = round(a0, a1, a2, a3)
	b0, b1, b2, b3 = round(b0, b1, b2, b3)
	c0, c1, c2, c3 = round(c0, c1, c2, c3)
	a0 ^= words[4]

	b0, b1, b2, b3 = round(b0, b1, b2, b3)
	c0, c1, c2, c3 = round(c0, c1, c2, c3)
	return finish(a0, a1, a2, a3, 40<<56), b0 ^ b1 ^ b2 ^ b3, c0 ^ c1 ^ c2 ^ c3
}
