package poll

import (
	"io"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

func compress(t *testing.T, b []byte) []byte {
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer encoder.Close()
	return encoder.EncodeAll(b, nil)
}

func TestDecompressBounds(t *testing.T) {
	if message, err := decompress(compress(t, make([]byte, maxMessage+1)), "zstd"); ReasonOf(err) != TooLarge {
		t.Errorf("a bomb gave %d bytes and %v", len(message), err)
	}
	if message, err := decompress(compress(t, make([]byte, 1000)), "zstd"); err != nil || len(message) != 1000 {
		t.Errorf("1,000 bytes gave %d and %v", len(message), err)
	}
}

// Many large answers at once are refused beyond the budget; ordinary ones never are,
// and what was taken comes back.
func TestBodyBudget(t *testing.T) {
	r := NewReader()
	var held []*budgeted
	var err error
	for err == nil && len(held) < 1000 {
		b := &budgeted{reader: r}
		held = append(held, b)
		err = b.fill(io.LimitReader(zeroReader{}, maxBody-1))
	}
	if n := len(held); ReasonOf(err) != Busy || n < bodyBudget/maxBody/2 || n > bodyBudget/maxBody+1 {
		t.Errorf("%d answers and %v", n, err)
	}
	small := &budgeted{reader: r}
	if err := small.fill(io.LimitReader(zeroReader{}, freeBody-1)); err != nil || small.Len() != freeBody-1 {
		t.Errorf("an ordinary answer: %d bytes, %v", small.Len(), err)
	}
	for _, b := range held {
		b.free()
	}
	if left := r.left.Load(); left != bodyBudget {
		t.Errorf("%d bytes of the budget are left", left)
	}
	if err := (&budgeted{reader: r}).fill(zeroReader{}); ReasonOf(err) != TooLarge {
		t.Errorf("a body without end: %v", err)
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { return len(p), nil }

func TestBackoff(t *testing.T) {
	for failures, longest := range map[int]time.Duration{
		1: 200 * time.Millisecond, 2: 400 * time.Millisecond, 4: 1600 * time.Millisecond, 5: 3 * time.Second, 1000: 3 * time.Second,
	} {
		different := make(map[time.Duration]bool)
		for range 100 {
			d := DefaultBackoff.After(failures)
			different[d] = true
			if d > longest || d < longest/2-1 {
				t.Errorf("after %d failures %v, want %v to %v", failures, d, longest/2, longest)
			}
		}
		if len(different) < 50 {
			t.Errorf("after %d failures there are only %d different waits", failures, len(different))
		}
	}
}
