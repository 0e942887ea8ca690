package top

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

func TestShort(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.4: "0", 7: "7", 999: "999", 999.4: "999", 999.5: "1.00k", 1000: "1.00k", 9994: "9.99k", 9995: "10.0k",
		12345: "12.3k", 99949: "99.9k", 99950: "100k", 999_499: "999k", 999_500: "1.00M", 1e9: "1.00G", 1.5e12: "1.50T",
		1 << 63: "9.22E", 8 * (1 << 63): "73.8E",
	} {
		if got := short(v); got != want {
			t.Errorf("%v: got %s, want %s", v, got, want)
		}
	}
}

func TestRate(t *testing.T) {
	c := epoch.Count{Packets: 30, Bytes: 1000}
	for _, test := range []struct {
		u    units
		m    measure
		over time.Duration
		want float64
	}{
		{bits, inBytes, 2 * time.Second, 4000}, {octets, inBytes, 2 * time.Second, 500}, {bits, inPackets, 10 * time.Second, 3},
		{octets, inPackets, 500 * time.Millisecond, 60}, {bits, inBytes, 0, 0}, {bits, inBytes, -1, 0},
	} {
		if got := test.u.rate(c, test.m, test.over); got != test.want {
			t.Errorf("%+v: got %v", test, got)
		}
	}
}

func TestPercent(t *testing.T) {
	for _, test := range []struct {
		part, whole uint64
		want        string
	}{{0, 0, "-"}, {0, 10, "0.0%"}, {1, 3, "33.3%"}, {9994, 10000, "99.9%"}, {9996, 10000, "100%"}, {10, 10, "100%"}} {
		if got := percent(test.part, test.whole); got != test.want {
			t.Errorf("%d of %d: got %s, want %s", test.part, test.whole, got, test.want)
		}
	}
}

func TestBar(t *testing.T) {
	for share, want := range map[float64]string{
		0: "    ", 0.01: "    ", 1.0 / 32: "▏   ", 0.5: "██  ", 0.99: "████", 1: "████", 2: "████", -1: "    ", 0.65: "██▋ ",
	} {
		if got := bar(share, 4); got != want {
			t.Errorf("%v: got %q, want %q", share, got, want)
		}
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0.0s", 640 * time.Millisecond: "0.6s", 12400 * time.Millisecond: "12s", 75 * time.Second: "1m15s", 2*time.Hour + 5*time.Minute + 3*time.Second: "2h5m0s",
	} {
		if got := age(d); got != want {
			t.Errorf("%d: got %s, want %s", d, got, want)
		}
	}
}

// What comes from the network can't do anything to a terminal.
func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"eth0":                         "eth0",
		"host ü 日本":                    "host ü 日本",
		"\x1b[2J\x1b]0;owned\x07":      "·[2J·]0;owned·",
		"a\r\nb\tc\x00d\x7fe\u009bm":   "a··b·c·d·e·m", // C1 controls, too
		"right\u202eleft\u2066x\u200b": "right·left·x·",
		"z\u0301\u0301\u0301algo":      "z···algo",
		"bad \xff\xfe utf8":            "bad · utf8",
		"\u2028\ufeff":                 "··",
		strings.Repeat("x", 65):        strings.Repeat("x", 63) + "…",
		strings.Repeat("\x1b", 1000):   strings.Repeat("·", 63) + "…",
	} {
		if got := printable(text, 64); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	if got := oneLine(errors.New("a\nb\x1b[1m\tc")); got != "a b·[1m c" {
		t.Errorf("an error: got %q", got)
	}
}

func FuzzFit(f *testing.F) {
	f.Add("[2001:db8:1234:5678:9abc:def0:1234:5678]:50000", 20)
	f.Add("日本日本日本日本", 9)
	f.Fuzz(func(t *testing.T, text string, width int) {
		width %= 200
		text = printable(text, maxError)
		for _, got := range []string{fit(text, width), fitRight(text, width), fitLabel(text, width)} {
			if n := ansi.StringWidth(got); n != max(width, 0) || !utf8.ValidString(got) {
				t.Errorf("%q in %d cells is %q, %d cells", text, width, got, n)
			}
			if width > 0 && ansi.StringWidth(text) > width && !strings.Contains(got, "…") {
				t.Errorf("%q is cut to %q without a mark", text, got)
			}
		}
	})
}

func TestFitLabel(t *testing.T) {
	const long = "[2001:db8:1234:5678:9abc:def0:1234:5678]:50000"
	for width, want := range map[int]string{
		46: long, 47: long + " ", 21: "[2001:db8:…678]:50000", 12: "[2001:…50000", 7: "[2001:…", 1: "…", 0: "",
	} {
		if got := fitLabel(long, width); got != want {
			t.Errorf("%d cells: got %q, want %q", width, got, want)
		}
	}
}
