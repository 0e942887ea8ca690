package main

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"github.com/traffic-monitor-agent/tma/lab/traffic"
)

// options are what the command line says.
type options struct {
	configuration traffic.Configuration
	truth         string // file; empty for none
	// controlled says that heavy traffic is started and ended by HTTP.
	controlled bool
	heavy      traffic.Configuration
	web        *web.FlagConfig
}

// texts are the flags that are parsed after kingpin.
type texts struct {
	sources, destinations, spoofed []string
	mode, distribution, frameSize  string
	packets                        uint64
}

func parse(args []string) (*options, error) {
	o := &options{configuration: traffic.DefaultConfiguration()}
	var t texts
	app := o.flags(&t)
	o.configuration.Ports = nil // kingpin appends to it
	if _, err := app.Parse(args); err != nil {
		return nil, err
	}
	return o, o.complete(t)
}

func (o *options) flags(t *texts) *kingpin.Application {
	c := &o.configuration
	app := kingpin.New("tma-traffic", "Sends packets of known flows to the given addresses and writes the ground truth. The packets' transport checksum is wrong on purpose: receivers noClose them silently.")
	app.HelpFlag.Short('h')
	app.UsageWriter(os.Stdout)
	app.Flag("destination", "Address or prefix to send to; may be repeated. The first is the victim of heavy mode.").Required().StringsVar(&t.destinations)
	app.Flag("source", "Address or prefix to send from; may be repeated. Default: this host's addresses.").StringsVar(&t.sources)
	app.Flag("spoofed", "Address or prefix that a flood comes from; may be repeated. Default: the sources.").StringsVar(&t.spoofed)
	app.Flag("port", "Destination port; may be repeated.").Default(decimals(c.Ports)...).Uint16ListVar(&c.Ports)
	app.Flag("mode", "Kind of traffic: normal or heavy.").Default(string(c.Mode)).EnumVar(&t.mode, traffic.Modes...)
	app.Flag("packets", "Packets to send. Default: as many as rate and duration come to.").Uint64Var(&t.packets)
	app.Flag("duration", "Time after which to stop in any case; 0s for none.").Default("0s").DurationVar(&c.Duration)
	app.Flag("rate", "Packets per second; 0 for as fast as possible.").Default(number(c.Rate)).Float64Var(&c.Rate)
	app.Flag("flows", "Number of distinct flows.").Default(strconv.Itoa(c.Flows)).IntVar(&c.Flows)
	app.Flag("distribution", "How packets are spread over flows: uniform, zipf:EXPONENT or pareto:SHAPE.").Default(c.Distribution.String()).StringVar(&t.distribution)
	app.Flag("frame-size", "Bytes of a data packet on the wire: one number, or MIN-MAX.").Default(fmt.Sprintf("%d-%d", c.FrameSize.Min, c.FrameSize.Max)).StringVar(&t.frameSize)
	app.Flag("udp-share", "Share of flows that are UDP, 0 to 1; the others are TCP.").Default(number(c.UDPShare)).Float64Var(&c.UDPShare)
	app.Flag("ipv6-share", "Share of flows that are IPv6, 0 to 1; the others are IPv4.").Default(number(c.IPv6Share)).Float64Var(&c.IPv6Share)
	app.Flag("seed", "Flows and order are functions of it and of the other flags.").Default(strconv.FormatUint(c.Seed, 10)).Uint64Var(&c.Seed)
	app.Flag("truth.file", "File for the ground truth, as JSON lines; - for standard output.").StringVar(&o.truth)
	app.Flag("controller", "Serve GET and PUT /v1/mode, by which heavy traffic is sent beside the normal.").BoolVar(&o.controlled)
	app.Flag("heavy.duration", "Time after which heavy traffic ends by itself, with --controller.").Default("30s").DurationVar(&o.heavy.Duration)
	app.Flag("heavy.rate", "Packets per second of heavy traffic, with --controller.").Default("20000").Float64Var(&o.heavy.Rate)
	app.Flag("heavy.flows", "Flows of heavy traffic, with --controller.").Default("20000").IntVar(&o.heavy.Flows)
	o.web = kingpinflag.AddFlags(app, controllerAddress)
	return app
}

// controllerAddress is where the controller listens unless told otherwise.
const controllerAddress = ":10018"

// completeHeavy makes heavy traffic's configuration of the normal one.
func (o *options) completeHeavy() {
	heavy := o.configuration
	heavy.Packets = 0
	heavy.Duration, heavy.Rate, heavy.Flows = o.heavy.Duration, o.heavy.Rate, o.heavy.Flows
	o.heavy = heavy
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func (o *options) complete(t texts) (err error) {
	c := &o.configuration
	c.Mode, c.Packets = traffic.Mode(t.mode), t.packets
	if c.Destinations, err = prefixes("destination", t.destinations); err != nil {
		return err
	}
	if c.Sources, err = prefixes("source", t.sources); err != nil {
		return err
	}
	if c.Spoofed, err = prefixes("spoofed", t.spoofed); err != nil {
		return err
	}
	if len(c.Sources) == 0 {
		if c.Sources, err = ownAddresses(); err != nil {
			return err
		}
	}
	if c.Distribution, err = traffic.ParseDistribution(t.distribution); err != nil {
		return fmt.Errorf("--distribution: %w", err)
	}
	if c.FrameSize, err = parseSizes(t.frameSize); err != nil {
		return err
	}
	o.completeHeavy()
	return nil
}

func prefixes(flag string, texts []string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, text := range texts {
		p, err := traffic.ParseAddresses(text)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", flag, err)
		}
		list = append(list, p)
	}
	return list, nil
}

func parseSizes(text string) (traffic.SizeRange, error) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	low, err := strconv.Atoi(first)
	if err == nil {
		var high int
		if high, err = strconv.Atoi(last); err == nil {
			return traffic.SizeRange{Min: low, Max: high}, nil
		}
	}
	return traffic.SizeRange{}, fmt.Errorf("--frame-size: %q is neither a number nor MIN-MAX", text)
}

// ownAddresses lists the addresses of this host that others can see.
func ownAddresses() ([]netip.Prefix, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list this host's addresses: %w", err)
	}
	var own []netip.Prefix
	for _, address := range all {
		prefix, err := netip.ParsePrefix(address.String())
		if err == nil && prefix.Addr().IsGlobalUnicast() {
			own = append(own, netip.PrefixFrom(prefix.Addr(), prefix.Addr().BitLen()))
		}
	}
	return own, nil
}

// openTruth opens where the ground truth is written to, before anything is
// sent that couldn't be accounted for.
func (o *options) openTruth() (io.WriteCloser, error) {
	switch o.truth {
	case "":
		return noClose{io.Discard}, nil
	case "-":
		return noClose{os.Stdout}, nil
	}
	return os.Create(o.truth)
}

// noClose is a writer whose Close does nothing.
type noClose struct{ io.Writer }

func (noClose) Close() error { return nil }

func decimals(list []uint16) []string {
	texts := make([]string, len(list))
	for i, p := range list {
		texts[i] = strconv.Itoa(int(p))
	}
	return texts
}
