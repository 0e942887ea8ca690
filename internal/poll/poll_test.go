package poll

import (
	"bytes"
	"errors"
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

func TestReadMessageBounds(t *testing.T) {
	if _, err := readMessage(&counter{from: zeroReader{}}, ""); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a body without end: %v", err)
	}
	bomb := bytes.NewReader(compress(t, make([]byte, MaxMessage+1)))
	if message, err := readMessage(&counter{from: bomb}, "zstd"); err == nil || len(message) > MaxMessage+1 {
		t.Errorf("a bomb gave %d bytes and %v", len(message), err)
	}
	whole := compress(t, make([]byte, 1000))
	if message, err := readMessage(&counter{from: bytes.NewReader(whole)}, "zstd"); err != nil || len(message) != 1000 {
		t.Errorf("1,000 bytes gave %d and %v", len(message), err)
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
