package top

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

func TestFilterOfFlows(t *testing.T) {
	web := testKey("10.1.2.3:40000", "192.168.0.1:443", flow.ProtocolTCP)
	dns := testKey("[2001:db8::1]:5353", "[2001:db8:1::2]:53", flow.ProtocolUDP)
	ping := testKey("10.1.2.3:8", "10.9.9.9:0", flow.ProtocolICMP)
	for _, test := range []struct {
		text           string
		web, dns, ping bool
	}{
		{"", true, true, true},
		{"   ", true, true, true},
		{"net 10.0.0.0/8", true, false, true},
		{"net 10.99.99.99/8", true, false, true}, // bits behind the length don't matter
		{"src net 10.0.0.0/8", true, false, true},
		{"dst net 10.0.0.0/8", false, false, true},
		{"10.0.0.0/8", true, false, true},
		{"net 2001:db8::/32", false, true, false},
		{"dst net 2001:db8:1::/48", false, true, false},
		{"host 192.168.0.1", true, false, false},
		{"192.168.0.1", true, false, false},
		{"192.168.0.11", false, false, false},
		{"host ::ffff:192.168.0.1", true, false, false},
		{"192.168", true, false, false}, // a word
		{"port 443", true, false, false},
		{"src port 443", false, false, false},
		{"dst port 53", false, true, false},
		{"port 50-5353", true, true, false},
		{"port 0", false, false, false}, // a type and a code aren't ports
		{"port 8", false, false, false},
		{"proto tcp", true, false, false},
		{"proto UDP", false, true, false},
		{"proto 1", false, false, true},
		{"https", true, false, false},
		{"HTTPS", true, false, false},
		{"domain", false, true, false},
		{"icmp", false, false, true},
		{"unknown", false, false, false},
		{"not proto tcp", false, true, true},
		{"!https", false, true, true},
		{"not not https", true, false, false},
		{"net 10.0.0.0/8 proto icmp", false, false, true},
		{"net 10.0.0.0/8 and proto icmp", false, false, true},
		{"port 53 or proto icmp", false, true, true},
		{"proto udp or proto tcp and port 443", true, true, false}, // and binds closer
		{"(proto udp or proto tcp) port 443", true, false, false},
		{"not (proto udp or proto tcp)", false, false, true},
	} {
		f, err := parseFilter(test.text)
		if err != nil {
			t.Errorf("%q: %v", test.text, err)
			continue
		}
		for i, key := range []flow.Key{web, dns, ping} {
			subject := flowSubject(&key)
			want := verdictOf([]bool{test.web, test.dns, test.ping}[i])
			if got := f.verdict(&subject); got != want {
				t.Errorf("%q of flow %s: got %d, want %d", test.text, flowText(&key), got, want)
			}
		}
	}
}

// Of traffic that was folded to a prefix of its source, a filter says yes or no only if
// that is sure.
func TestFilterOfPrefixes(t *testing.T) {
	for _, test := range []struct {
		text, source string
		want         verdict
	}{
		{"src net 10.0.0.0/8", "10.1.0.0/16", yes},
		{"src net 10.1.0.0/16", "10.0.0.0/8", unknown},
		{"src net 10.1.0.0/16", "10.2.0.0/16", no},
		{"src net 10.1.0.0/16", "::/0", no},
		{"net 10.0.0.0/8", "10.1.0.0/16", yes},
		{"net 10.0.0.0/8", "11.0.0.0/8", unknown}, // the destination may be
		{"dst net 10.0.0.0/8", "10.1.0.0/16", unknown},
		{"not src net 10.0.0.0/8", "10.1.0.0/16", no},
		{"not src net 10.1.0.0/16", "10.0.0.0/8", unknown},
		{"src net 10.0.0.0/8 port 443", "10.1.0.0/16", unknown},
		{"src net 10.0.0.0/8 port 443", "11.0.0.0/8", no},
		{"src net 10.0.0.0/8 or port 443", "10.1.0.0/16", yes},
		{"proto tcp", "10.0.0.1/32", unknown},
		{"10", "10.0.0.1/32", unknown},
		{"", "10.0.0.1/32", yes},
	} {
		f, err := parseFilter(test.text)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.verdict(&subject{source: netip.MustParsePrefix(test.source)}); got != test.want {
			t.Errorf("%q of %s: got %d, want %d", test.text, test.source, got, test.want)
		}
	}
}

func TestWrongFilters(t *testing.T) {
	for text, want := range map[string]string{
		"net":               `net "" isn't a network; allowed: one such as 10.0.0.0/8 or 2001:db8::/32`,
		"net 10.0.0.0/33":   `net "10.0.0.0/33" isn't a network; allowed: one such as 10.0.0.0/8 or 2001:db8::/32`,
		"net 10.0.0.1":      `net "10.0.0.1" isn't a network; allowed: one such as 10.0.0.0/8 or 2001:db8::/32`,
		"host 10.0.0.0/8":   `host "10.0.0.0/8" isn't an address; allowed: one such as 10.0.0.1 or 2001:db8::1`,
		"port https":        `port "https" isn't a port; allowed: one such as 443 or 8000-8999`,
		"port 65536":        `port "65536" isn't a port; allowed: one such as 443 or 8000-8999`,
		"port 9-8":          `port "9-8" isn't a port; allowed: one such as 443 or 8000-8999`,
		"proto tcpp":        `proto "tcpp" isn't a protocol; allowed: a name such as tcp, udp, icmp, or a number from 0 to 255`,
		"src":               `src "" isn't a term; allowed: src net, src host or src port`,
		"dst tcp":           `dst "tcp" isn't a term; allowed: dst net, dst host or dst port`,
		"or https":          `a term is missing before "or"; allowed: ` + filterHelp,
		"https or":          `a term is missing; allowed: ` + filterHelp,
		"https and or http": `a term is missing before "or"; allowed: ` + filterHelp,
		"not":               `a term is missing; allowed: ` + filterHelp,
		"()":                `a term is missing before ")"; allowed: ` + filterHelp,
		"(https":            `an opening parenthesis without a closing one`,
		"https)":            `a closing parenthesis without an opening one`,
	} {
		f, err := parseFilter(text)
		if err == nil || err.Error() != want || f != nil {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	if _, err := parseFilter(strings.Repeat("(", 1000)); err == nil || !strings.Contains(err.Error(), "too deeply") {
		t.Errorf("1,000 parentheses: got %v", err)
	}
}

// Whatever is typed is a filter or an error, and a filter decides.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{"net 10.0.0.0/8 (port 443 or proto udp) not host 10.0.0.7", "src port 1-2", "!!(x"} {
		f.Add(seed)
	}
	key := testKey("10.1.2.3:40000", "192.168.0.1:443", flow.ProtocolTCP)
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := parseFilter(text)
		if err != nil {
			return
		}
		subject := flowSubject(&key)
		if parsed.verdict(&subject) == unknown {
			t.Errorf("%q doesn't decide on a flow", text)
		}
	})
}
