package yamlconf

import (
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
)

// Duration is a span of time as Prometheus writes it: 500ms, 15s, 1h30m.
type Duration time.Duration

// Allowed says what a duration looks like.
func (d *Duration) Allowed() string { return "a duration such as 500ms, 15s or 1h" }

// UnmarshalText parses a duration.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := model.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%s isn't a duration; allowed: %s", clip(string(text)), d.Allowed())
	}
	*d = Duration(parsed)
	return nil
}

// MarshalText is the inverse of UnmarshalText.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Set is UnmarshalText for flags.
func (d *Duration) Set(text string) error { return d.UnmarshalText([]byte(text)) }

// String returns the duration as Prometheus writes it, to the millisecond.
func (d Duration) String() string { return model.Duration(d).String() }

// Bytes is a number of bytes, such as 64MiB.
type Bytes uint64

// byteUnits are the units, largest first.
var byteUnits = []struct {
	name  string
	bytes uint64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// Allowed says what a number of bytes looks like.
func (b *Bytes) Allowed() string { return "a size such as 512KiB, 64MiB or 1GiB" }

// UnmarshalText parses a whole number with a unit of powers of 1,024, or without
// one for bytes.
func (b *Bytes) UnmarshalText(text []byte) error {
	digits, unit := string(text), uint64(1)
	for _, u := range byteUnits {
		if rest, ok := strings.CutSuffix(digits, u.name); ok {
			digits, unit = rest, u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n > math.MaxUint64/unit {
		return fmt.Errorf("%s isn't a size; allowed: %s", clip(string(text)), b.Allowed())
	}
	*b = Bytes(n * unit)
	return nil
}

// MarshalText is the inverse of UnmarshalText.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// Set is UnmarshalText for flags.
func (b *Bytes) Set(text string) error { return b.UnmarshalText([]byte(text)) }

// String returns the size in the largest unit of which it is a multiple.
func (b Bytes) String() string {
	for _, u := range byteUnits {
		if b != 0 && uint64(b)%u.bytes == 0 {
			return strconv.FormatUint(uint64(b)/u.bytes, 10) + u.name
		}
	}
	return "0B"
}

// Regexp is a regular expression that must match the whole text, as in
// Prometheus' relabelling. The zero value has a nil *regexp.Regexp.
type Regexp struct {
	*regexp.Regexp
	written string
}

// MustRegexp compiles a default; it panics if it doesn't compile.
func MustRegexp(text string) Regexp {
	var r Regexp
	if err := r.Set(text); err != nil {
		panic("yamlconf: " + err.Error())
	}
	return r
}

// Allowed says what a regular expression looks like.
func (r *Regexp) Allowed() string { return "a regular expression (RE2) such as eth.*|bond0" }

// UnmarshalText compiles a regular expression.
func (r *Regexp) UnmarshalText(text []byte) error {
	// What was written must compile by itself as well: parentheses that close our
	// own group would escape the anchors.
	_, err := regexp.Compile(string(text))
	if err == nil {
		r.Regexp, err = regexp.Compile("^(?s:" + string(text) + ")$")
	}
	if err != nil {
		return fmt.Errorf("%s isn't a regular expression (%s); allowed: %s",
			clip(string(text)), strings.TrimPrefix(err.Error(), "error parsing regexp: "), r.Allowed())
	}
	r.written = string(text)
	return nil
}

// MarshalText returns what was written.
func (r Regexp) MarshalText() ([]byte, error) { return []byte(r.written), nil }

// Set is UnmarshalText for flags.
func (r *Regexp) Set(text string) error { return r.UnmarshalText([]byte(text)) }

// String returns what was written, without the anchors.
func (r Regexp) String() string { return r.written }

// Prefix is a network in CIDR notation; host bits are refused, since they are
// more often a slip than meant.
type Prefix struct{ netip.Prefix }

// Allowed says what a network looks like.
func (p *Prefix) Allowed() string { return "a network such as 10.0.0.0/8 or 2001:db8::/32" }

// UnmarshalText parses a network.
func (p *Prefix) UnmarshalText(text []byte) error {
	parsed, err := netip.ParsePrefix(string(text))
	if err != nil || parsed.Addr().Is4In6() {
		return fmt.Errorf("%s isn't a network; allowed: %s", clip(string(text)), p.Allowed())
	}
	if parsed != parsed.Masked() {
		return fmt.Errorf("%s has bits beyond its length; allowed: %s", clip(string(text)), parsed.Masked())
	}
	p.Prefix = parsed
	return nil
}

// Set is UnmarshalText for flags.
func (p *Prefix) Set(text string) error { return p.UnmarshalText([]byte(text)) }
