package poll

import (
	"errors"
	"fmt"
	"io"
)

// Bounds on one answer. An exporter sends at most 128 KiB a second and 64 epochs
// of ordinarily half a second at once.
const (
	maxBody    = 16 << 20 // as on the wire
	MaxMessage = 32 << 20 // decompressed
	maxWindow  = 8 << 20  // of zstd, what every decoder has to support (RFC 8878)
)

// ErrTooLarge is the error of an answer beyond the bounds.
var ErrTooLarge = errors.New("the answer is too large")

// counter counts and bounds what is read from the network.
type counter struct {
	from io.Reader
	n    uint64
}

func (c *counter) Read(p []byte) (int, error) {
	if c.n >= maxBody {
		return 0, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, maxBody)
	}
	n, err := c.from.Read(p[:min(uint64(len(p)), maxBody-c.n)])
	c.n += uint64(n)
	return n, err
}

// readMessage reads an answer's body by its Content-Encoding.
func readMessage(body io.Reader, encoding string) ([]byte, error) {
	switch encoding {
	case "", "identity":
		return io.ReadAll(body)
	case "zstd":
		return readZstd(body)
	}
	return nil, fmt.Errorf("content encoding %.20q, zstd or none was asked for", encoding)
}

func readZstd(body io.Reader) ([]byte, error) {
	message, err := readFrames(body, MaxMessage+1)
	if err == nil && len(message) > MaxMessage {
		err = fmt.Errorf("%w: more than %d bytes when decompressed", ErrTooLarge, MaxMessage)
	}
	return message, err
}
