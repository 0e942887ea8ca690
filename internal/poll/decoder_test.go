package poll

import (
	"bytes"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// compressed is an answer of so many random digits.
func compressed(t testing.TB, seed uint64, n int) (plain, frame []byte) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	for range n {
		plain = append(plain, byte('0'+r.IntN(10)))
	}
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return plain, encoder.EncodeAll(plain, nil)
}

// A decoder that had a broken or a cut answer decompresses the next one like a new one,
// and many may do so at once.
func TestDecodersForgetTheirLastAnswer(t *testing.T) {
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for round := range 20 {
				plain, frame := compressed(t, uint64(i*100+round), 30_000)
				if got, err := readFrames(bytes.NewReader(frame), 10); err != nil || !bytes.Equal(got, plain[:10]) {
					t.Errorf("the first ten bytes are %q, %v", got, err)
				}
				if _, err := readFrames(bytes.NewReader(frame[:len(frame)/2]), 1<<20); err == nil {
					t.Error("half an answer is no error")
				}
				if _, err := readFrames(bytes.NewReader(plain), 1<<20); err == nil {
					t.Error("what isn't zstd is no error")
				}
				if got, err := readFrames(bytes.NewReader(frame), 1<<20); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("%d bytes of %d, %v", len(got), len(plain), err)
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkReadFrames is an answer as large as a thousand flows, with a decoder of the
// pool and with a new one.
func BenchmarkReadFrames(b *testing.B) {
	_, frame := compressed(b, 1, 40_000)
	b.Run("pooled", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := readFrames(bytes.NewReader(frame), 1<<20); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			decoder := decoders.New().(*zstd.Decoder)
			if err := decoder.Reset(bytes.NewReader(frame)); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadAll(decoder); err != nil {
				b.Fatal(err)
			}
			decoder.Close()
		}
	})
}
