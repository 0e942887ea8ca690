package siphash

import "testing"

// With a key of zeros, CPython's hash of bytes (sys.hash_info.algorithm siphash13,
// PYTHONHASHSEED=0); with the key 00 01 .. 0f, an implementation in Perl that was
// written from the paper.
func TestVectors(t *testing.T) {
	var zeros, counting [KeyLen]byte
	for i := range counting {
		counting[i] = byte(i)
	}
	tests := []struct {
		key   [KeyLen]byte
		input string
		want  uint64
	}{
		{zeros, "a", 0x407448d2b89b1813},
		{zeros, "traffic monitor agent: forty bytes long.", 0x199c80f7e8ed54b3},
		{counting, "", 0xabac0158050fc4dc},
		{counting, "\x00", 0xc9f49bf37d57ca93},
		{counting, "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e", 0xd320d86d2a519956},
	}
	for _, test := range tests {
		if got := NewKey(test.key).Sum([]byte(test.input)); got != test.want {
			t.Errorf("%q under % x: %#x, want %#x", test.input, test.key, got, test.want)
		}
	}
}

// Every byte of an input and every bit of a key changes the hash.
func TestEveryBitCounts(t *testing.T) {
	var key [KeyLen]byte
	input := make([]byte, 40)
	seen := map[uint64]bool{NewKey(key).Sum(input): true}
	check := func(what string, i int, hash uint64) {
		if seen[hash] {
			t.Errorf("bit %d of the %s changes nothing", i, what)
		}
		seen[hash] = true
	}
	for i := range 8 * len(input) {
		input[i/8] ^= 1 << (i % 8)
		check("input", i, NewKey(key).Sum(input))
		input[i/8] ^= 1 << (i % 8)
	}
	for i := range 8 * KeyLen {
		key[i/8] ^= 1 << (i % 8)
		check("key", i, NewKey(key).Sum(input))
		key[i/8] ^= 1 << (i % 8)
	}
	check("length", 0, NewKey(key).Sum(input[:39]))
}

func BenchmarkSum40(b *testing.B) {
	key, input := NewKey([KeyLen]byte{1}), make([]byte, 40)
	for b.Loop() {
		key.Sum(input)
	}
}
