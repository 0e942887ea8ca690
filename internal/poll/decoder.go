package poll

import (
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// decoders go from one answer to the next: making one costs more than an ordinary
// answer's decompression. With a concurrency of 1 they have no goroutines, so that
// the garbage collector may take them.
var decoders = sync.Pool{New: func() any {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(maxMessage))
	if err != nil {
		panic(err) // the options are constants
	}
	return decoder
}}

// readFrames returns at most limit bytes of what a body decompresses to. It does so as
// a stream, so that memory grows with what really comes out and never with what a
// header promises.
func readFrames(body io.Reader, limit int64) ([]byte, error) {
	decoder := decoders.Get().(*zstd.Decoder)
	defer decoders.Put(decoder)
	if err := decoder.Reset(body); err != nil {
		return nil, err
	}
	defer decoder.Reset(nil) //nolint:errcheck // it lets go of the body
	return io.ReadAll(io.LimitReader(decoder, limit))
}
