// Package siphash is SipHash-1-3, the keyed hash of everything that leaves a
// host (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012, with
// one compression round and three finalisation rounds). Without the key nobody
// can craft packets that drive a sketch to a chosen value.
package siphash

import (
	"encoding/binary"
	"math/bits"
)

// KeyLen is the length of a key in bytes.
const KeyLen = 16

// Key is the fleet's secret. Sketches merge only if made with the same one.
type Key struct{ k0, k1 uint64 }

// NewKey takes the key's 16 bytes, little-endian as in the paper.
func NewKey(b [KeyLen]byte) Key {
	return Key{binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:])}
}

// Fingerprint identifies the key without giving it away: the hash, under the
// key, of a fixed text.
func (k Key) Fingerprint() uint64 { return k.Sum([]byte("tma key fingerprint")) }

// Sum hashes data of any length.
func (k Key) Sum(data []byte) uint64 {
	v0, v1, v2, v3 := k.state()
	last := uint64(len(data)) << 56
	for len(data) >= 8 {
		m := binary.LittleEndian.Uint64(data)
		v3 ^= m
		v0, v1, v2, v3 = round(v0, v1, v2, v3)
		v0 ^= m
		data = data[8:]
	}
	for i, b := range data {
		last |= uint64(b) << (8 * i)
	}
	return finish(v0, v1, v2, v3, last)
}

// state is SipHash's, before the first word.
func (k Key) state() (v0, v1, v2, v3 uint64) {
	return k.k0 ^ 0x736f6d6570736575, k.k1 ^ 0x646f72616e646f6d, k.k0 ^ 0x6c7967656e657261, k.k1 ^ 0x7465646279746573
}

// finish takes the last word, which has the length in its top byte, and finalises.
func finish(v0, v1, v2, v3, last uint64) uint64 {
	v3 ^= last
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0 ^= last
	v2 ^= 0xff
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	return v0 ^ v1 ^ v2 ^ v3
}

// round is one SipRound.
func round(v0, v1, v2, v3 uint64) (uint64, uint64, uint64, uint64) {
	v0 += v1
	v1 = bits.RotateLeft64(v1, 13) ^ v0
	v0 = bits.RotateLeft64(v0, 32)
	v2 += v3
	v3 = bits.RotateLeft64(v3, 16) ^ v2
	v0 += v3
	v3 = bits.RotateLeft64(v3, 21) ^ v0
	v2 += v1
	v1 = bits.RotateLeft64(v1, 17) ^ v2
	v2 = bits.RotateLeft64(v2, 32)
	return v0, v1, v2, v3
}
