package siphash

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

func TestFixedLengthsAreSum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		key := Key{r.Uint64(), r.Uint64()}
		var data [40]byte
		var words [5]uint64
		for i := range words {
			words[i] = r.Uint64()
			binary.LittleEndian.PutUint64(data[8*i:], words[i])
		}
		if got, want := key.Sum4(uint32(words[0])), key.Sum(data[:4]); got != want {
			t.Fatalf("Sum4 %x, want %x", got, want)
		}
		all, first, second := key.Sum40And16s(&words)
		for _, c := range []struct {
			got  uint64
			data []byte
		}{{all, data[:]}, {first, data[:16]}, {second, data[16:32]}} {
			if want := key.Sum(c.data); c.got != want {
				t.Fatalf("Sum40And16s %x of %d bytes, want %x", c.got, len(c.data), want)
			}
		}
	}
}
