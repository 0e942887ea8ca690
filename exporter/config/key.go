package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/traffic-monitor-agent/tma/internal/siphash"
)

// publicKey is the key without a key file. It is the same everywhere, so that
// sketches merge out of the box, and everybody can read it here: whoever may send
// packets past an exporter that uses it can drive distinct counts to any value.
var publicKey = [siphash.KeyLen]byte([]byte("tma's public key"))

// Key reads the key under which distinct things are hashed, and tells whether it
// is secret. Without a key file it is one that everybody knows.
func (s *Sketch) Key() (key siphash.Key, secret bool, err error) {
	if s.KeyFile == "" {
		return siphash.NewKey(publicKey), false, nil
	}
	text, err := readStart(s.KeyFile)
	if err != nil {
		return siphash.Key{}, false, fmt.Errorf("%w; allowed: a readable file with %d hexadecimal digits", err, hexDigits)
	}
	// What is wrong with the text is said without repeating it: it is a secret.
	text = strings.TrimSpace(text)
	if len(text) != hexDigits {
		return siphash.Key{}, false, fmt.Errorf("%s doesn't hold a key; allowed: %d hexadecimal digits", s.KeyFile, hexDigits)
	}
	var bytes [siphash.KeyLen]byte
	if _, err := hex.Decode(bytes[:], []byte(text)); err != nil {
		return siphash.Key{}, false, fmt.Errorf("%s doesn't hold hexadecimal digits alone; allowed: %d of them", s.KeyFile, hexDigits)
	}
	return siphash.NewKey(bytes), true, nil
}

// hexDigits is the length of a key as text.
const hexDigits = 2 * siphash.KeyLen

// readStart reads as much of a file as is needed to tell a key from another file.
func readStart(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = fmt.Errorf("%s: %w", file, path.Err)
		}
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 4*hexDigits))
	return string(text), err
}
