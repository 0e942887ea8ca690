package api

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/traffic-monitor-agent/tma/aggregator/store"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// filterParameters are those that select flows. exporter may be there several times.
var filterParameters = []string{
	"exporter", "direction", "protocol", "port", "source_port", "destination_port",
	"prefix", "source", "destination", "network", "source_network", "destination_network",
}

// filter is a store.Filter, and a text that is the same for equal ones.
type filter struct {
	store.Filter
	key string
}

func (a *API) filter(p *parameters) filter {
	f := store.Filter{
		Exporters: a.exporterNames(p), Direction: p.direction(), Protocol: p.protocol(),
		Port: p.port("port"), SourcePort: p.port("source_port"), DestinationPort: p.port("destination_port"),
		Either:      store.Ends{Prefix: p.prefix("prefix"), Network: a.network(p, "network")},
		Source:      store.Ends{Prefix: p.prefix("source"), Network: a.network(p, "source_network")},
		Destination: store.Ends{Prefix: p.prefix("destination"), Network: a.network(p, "destination_network")},
		Networks:    a.store.NetworkNames(),
	}
	return filter{f, p.key(filterParameters)}
}

// exporterNames reads exporter=, any number of which may be given.
func (a *API) exporterNames(p *parameters) []string {
	names := p.all("exporter")
	known := a.store.Exporters()
	for _, name := range names {
		if !slices.Contains(known, name) {
			p.refuse("exporter", "%q isn't an exporter; allowed: names of /v1/exporters", name)
		}
	}
	return names
}

func (a *API) network(p *parameters, name string) string {
	value, given := p.get(name)
	if !given {
		return ""
	}
	if _, known := a.store.NetworkNames().Number(value); !known {
		p.refuse(name, "%q isn't the name of a network; allowed: %s", value, strings.Join(a.store.NetworkNames().Names(), ", "))
	}
	return value
}

// all returns every value of a parameter that may be given several times, sorted.
func (p *parameters) all(name string) []string {
	p.known[name] = true
	values := slices.Clone(p.values[name])
	slices.Sort(values)
	return slices.Compact(values)
}

// key returns a text that differs where values of the parameters do.
func (p *parameters) key(names []string) string {
	var key strings.Builder
	for _, name := range names {
		for _, value := range p.all(name) {
			key.WriteString(name + "=" + strconv.Quote(value) + "&")
		}
	}
	return key.String()
}

func (p *parameters) direction() *flow.Direction {
	value, given := p.get("direction")
	for _, d := range []flow.Direction{flow.Ingress, flow.Egress} {
		if value == d.String() {
			return &d
		}
	}
	if given {
		p.refuse("direction", "%q isn't a direction; allowed: ingress, egress", value)
	}
	return nil
}

func (p *parameters) protocol() *uint8 {
	value, given := p.get("protocol")
	if !given {
		return nil
	}
	protocol, err := flow.ParseProtocol(value)
	if err != nil {
		p.refuse("protocol", "%v", err)
	}
	return &protocol
}

func (p *parameters) port(name string) *uint16 {
	value, given := p.get(name)
	if !given {
		return nil
	}
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil {
		p.refuse(name, "%q isn't a port; allowed: 0 to 65535", value)
	}
	port := uint16(n)
	return &port
}

// prefix reads a network or an address, which is the network of it alone.
func (p *parameters) prefix(name string) netip.Prefix {
	value, given := p.get(name)
	if !given {
		return netip.Prefix{}
	}
	if addr, err := netip.ParseAddr(value); err == nil && addr.Zone() == "" {
		return netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
	}
	prefix, err := netip.ParsePrefix(value)
	if err != nil || prefix.Masked() != prefix || prefix.Addr().Is4In6() {
		p.refuse(name, "%q isn't a prefix; allowed: a network such as 10.0.0.0/8 or 2001:db8::/32 without bits beyond its length, or an address", value)
	}
	return prefix
}
