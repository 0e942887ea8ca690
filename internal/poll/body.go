package poll

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// Bounds on one answer. An exporter sends 4 MiB at most, or one larger epoch.
const (
	maxBody    = 16 << 20 // as on the wire
	maxMessage = 32 << 20 // decompressed
	maxWindow  = 8 << 20  // of zstd, what every decoder has to support (RFC 8878)
)

// Bounds on the answers of all targets that are read at the same time, so that many
// bad ones don't fill the memory together. Each may be as large as freeBody; what is
// beyond that is taken from the budget, and an answer for which that is used up fails.
const (
	freeBody   = 256 << 10
	bodyBudget = 128 << 20
)

// Reader polls, and bounds what all polls through it take together.
type Reader struct {
	left atomic.Int64 // of the budget
	// Decompressing and decoding take CPU time alone, so one that waits for a slot
	// waits for work that ends, never for a slow target.
	slots chan struct{}
}

// NewReader returns a reader for all polls of a program.
func NewReader() *Reader {
	r := &Reader{slots: make(chan struct{}, runtime.GOMAXPROCS(0))}
	r.left.Store(bodyBudget)
	return r
}

// read reads and decodes a body by its Content-Encoding. It returns how many bytes it
// had, also if there was an error.
func (r *Reader) read(body io.Reader, encoding string) (*epoch.Batch, uint64, error) {
	b := budgeted{reader: r}
	defer b.free()
	err := b.fill(body)
	n := uint64(b.Len())
	if err != nil {
		return nil, n, err
	}
	r.slots <- struct{}{}
	defer func() { <-r.slots }()
	message, err := decompress(b.Bytes(), encoding)
	if err != nil {
		return nil, n, err
	}
	batch, err := epoch.DecodeBatch(message)
	return batch, n, err
}

// budgeted is a body that is paid for.
type budgeted struct {
	bytes.Buffer
	reader *Reader
	paid   int64
}

// fill reads up to maxBody bytes, doubling what it reads and pays for.
func (b *budgeted) fill(body io.Reader) error {
	for limit := int64(freeBody); ; limit *= 2 {
		_, err := io.Copy(&b.Buffer, io.LimitReader(body, limit-int64(b.Len())))
		if err != nil || int64(b.Len()) < limit {
			return err
		}
		if limit >= maxBody {
			return &Error{TooLarge, fmt.Errorf("the answer is too large: more than %d bytes", maxBody)}
		}
		if !b.pay(limit) {
			return &Error{Busy, fmt.Errorf("too many large answers at once: more than %d bytes", bodyBudget)}
		}
	}
}

func (b *budgeted) pay(n int64) bool {
	b.paid += n
	return b.reader.left.Add(-n) >= 0
}

func (b *budgeted) free() { b.reader.left.Add(b.paid) }

func decompress(body []byte, encoding string) ([]byte, error) {
	switch encoding {
	case "", "identity":
		return body, nil
	case "zstd":
		return decompressZstd(body)
	}
	return nil, &Error{Encoding, fmt.Errorf("content encoding %.20q, zstd or none was asked for", encoding)}
}

// decompressZstd decompresses as a stream, so that memory grows with what really
// comes out and never with what a header promises.
func decompressZstd(body []byte) ([]byte, error) {
	decoder, err := zstd.NewReader(bytes.NewReader(body), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(maxMessage))
	if err != nil {
		return nil, err
	}
	defer decoder.Close()
	message, err := io.ReadAll(io.LimitReader(decoder, maxMessage+1))
	switch {
	case len(message) > maxMessage:
		return nil, &Error{TooLarge, fmt.Errorf("the answer is too large: more than %d bytes when decompressed", maxMessage)}
	case err != nil:
		return nil, &Error{Encoding, err}
	}
	return message, nil
}
