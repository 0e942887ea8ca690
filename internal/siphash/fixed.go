package siphash

// The functions below return what Sum does for data of a fixed length, given as
// little-endian words, without the loops that an unknown length needs.

// Sum4 hashes 4 bytes.
func (k Key) Sum4(data uint32) uint64 {
	v0, v1, v2, v3 := k.state()
	return finish(v0, v1, v2, v3, 4<<56|uint64(data))
}

// Sum16 hashes 16 bytes.
func (k Key) Sum16(a, b uint64) uint64 {
	v0, v1, v2, v3 := k.state()
	v3 ^= a
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0 ^= a
	v3 ^= b
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0 ^= b
	return finish(v0, v1, v2, v3, 16<<56)
}

// Sum40 hashes 40 bytes.
func (k Key) Sum40(words *[5]uint64) uint64 {
	v0, v1, v2, v3 := k.state()
	for _, m := range words {
		v3 ^= m
		v0, v1, v2, v3 = round(v0, v1, v2, v3)
		v0 ^= m
	}
	return finish(v0, v1, v2, v3, 40<<56)
}
