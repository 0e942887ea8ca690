package main

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/lab/traffic"
)

func TestFlags(t *testing.T) {
	o, err := parse([]string{
		"--destination=10.0.0.1", "--destination=fd00::/64", "--source=10.0.0.2", "--spoofed=198.18.0.0/16",
		"--port=80", "--port=443", "--mode=heavy", "--packets=5000", "--duration=3s", "--rate=0", "--flows=7",
		"--distribution=pareto:1.5", "--frame-size=100-200", "--udp-share=1", "--ipv6-share=0", "--seed=9", "--truth.file=x",
	})
	if err != nil {
		t.Fatal(err)
	}
	c := o.configuration
	if !slices.Equal(c.Destinations, []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("fd00::/64")}) ||
		!slices.Equal(c.Sources, []netip.Prefix{netip.MustParsePrefix("10.0.0.2/32")}) ||
		!slices.Equal(c.Spoofed, []netip.Prefix{netip.MustParsePrefix("198.18.0.0/16")}) ||
		!slices.Equal(c.Ports, []uint16{80, 443}) || o.truth != "x" {
		t.Errorf("addresses, ports or file: %+v", o)
	}
	c.Sources, c.Destinations, c.Spoofed, c.Ports = nil, nil, nil, nil
	want := traffic.Configuration{
		Seed: 9, Mode: traffic.Heavy, Packets: 5000, Duration: 3 * time.Second, Flows: 7,
		Distribution: traffic.Distribution{Kind: traffic.Pareto, Exponent: 1.5},
		FrameSize:    traffic.SizeRange{Min: 100, Max: 200}, UDPShare: 1,
	}
	if got, want := c, want; !equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func equal(a, b traffic.Configuration) bool {
	return a.Seed == b.Seed && a.Mode == b.Mode && a.Packets == b.Packets && a.Duration == b.Duration && a.Rate == b.Rate &&
		a.Flows == b.Flows && a.Distribution == b.Distribution && a.FrameSize == b.FrameSize && a.UDPShare == b.UDPShare && a.IPv6Share == b.IPv6Share
}

func TestDefaultsAreThePackages(t *testing.T) {
	o, err := parse([]string{"--destination=10.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	want := traffic.DefaultConfiguration()
	if !equal(o.configuration, want) || !slices.Equal(o.configuration.Ports, want.Ports) {
		t.Errorf("got %+v, want %+v", o.configuration, want)
	}
}

// What is wrong is said in one line, with exit code 1, before anything is sent.
func TestErrors(t *testing.T) {
	for want, args := range map[string][]string{
		"required flag(s) '--destination' not provided":                          {"--packets=10"},
		"unknown long flag '--x'":                                                {"--destination=10.0.0.1", "--x"},
		"unexpected y":                                                           {"--destination=10.0.0.1", "y"},
		"no end: give packets, or a duration and a rate":                         {"--destination=10.0.0.1", "--source=10.0.0.2", "--ipv6-share=0"},
		`--destination: "x" is neither an address nor a prefix in CIDR notation`: {"--destination=x"},
		`--frame-size: "1-x" is neither a number nor MIN-MAX`:                    {"--destination=10.0.0.1", "--frame-size=1-x"},
		`--distribution: distribution "zipf:x": "x" isn't a number`:              {"--destination=10.0.0.1", "--distribution=zipf:x"},
		"enum value must be one of normal,heavy, got 'x'":                        {"--destination=10.0.0.1", "--mode=x"},
		"open /nowhere/truth: no such file or directory":                         {"--destination=10.0.0.1", "--source=10.0.0.2", "--ipv6-share=0", "--packets=500", "--truth.file=/nowhere/truth"},
	} {
		var out, errors bytes.Buffer
		if code := run(args, &out, &errors); code != 1 || errors.String() != "tma-traffic: "+want+"\n" || out.Len() > 0 {
			t.Errorf("%q: exit code %d, errors %q, output %q; want 1, %q", args, code, errors.String(), out.String(), want)
		}
	}
}
