package top

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// filterHelp is the language of filters, for --help, the help screen and errors.
const filterHelp = "words that must all be found in addresses, ports, protocols or names, " +
	"net 10.0.0.0/8, host 10.0.0.1, port 443, port 8000-8999, proto udp, " +
	"src or dst before net, host and port, and, or, not, parentheses"

// verdict is what a filter says of traffic of which not everything is known
// (Kleene's three-valued logic): "and" is the least, "or" the greatest.
type verdict int8

const (
	no verdict = iota - 1
	unknown
	yes
)

func verdictOf(b bool) verdict {
	if b {
		return yes
	}
	return no
}

// subject is what a filter decides on. What isn't known is the zero value.
type subject struct {
	source, destination netip.Prefix // whole addresses, or networks that traffic was folded to
	key                 *flow.Key
	text                string // to find words in, lower case
}

// flowSubject is a flow, of which everything is known.
func flowSubject(key *flow.Key) subject {
	source, destination := key.SourceAddr(), key.DestinationAddr()
	return subject{
		source:      netip.PrefixFrom(source, source.BitLen()),
		destination: netip.PrefixFrom(destination, destination.BitLen()),
		key:         key,
	}
}

// filter decides; the nil filter lets everything pass.
type filter func(*subject) verdict

func (f filter) verdict(s *subject) verdict {
	if f == nil {
		return yes
	}
	return f(s)
}

// parseFilter reads a filter; see filterHelp. An empty text is the nil filter.
func parseFilter(text string) (filter, error) {
	text = strings.NewReplacer("(", " ( ", ")", " ) ", "!", " not ").Replace(text)
	p := parser{words: strings.Fields(strings.ToLower(text))}
	if len(p.words) == 0 {
		return nil, nil
	}
	f, err := p.either()
	if err == nil && len(p.words) > 0 {
		err = errors.New("a closing parenthesis without an opening one")
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// parser reads a filter by recursive descent.
type parser struct {
	words []string // that are left
	depth int
}

// maxDepth bounds the nesting of parentheses and nots.
const maxDepth = 32

func (p *parser) peek() string {
	if len(p.words) == 0 {
		return ""
	}
	return p.words[0]
}

func (p *parser) next() string {
	word := p.peek()
	if word != "" {
		p.words = p.words[1:]
	}
	return word
}

// either reads terms with "or" between them.
func (p *parser) either() (filter, error) {
	left, err := p.both()
	for err == nil && p.peek() == "or" {
		p.next()
		var right filter
		a := left
		right, err = p.both()
		left = func(s *subject) verdict { return max(a(s), right(s)) }
	}
	return left, err
}

// both reads terms with "and", or nothing, between them.
func (p *parser) both() (filter, error) {
	left, err := p.term()
	for err == nil && p.peek() != "" && p.peek() != "or" && p.peek() != ")" {
		if p.peek() == "and" {
			p.next()
		}
		var right filter
		a := left
		right, err = p.term()
		left = func(s *subject) verdict { return min(a(s), right(s)) }
	}
	return left, err
}

func (p *parser) term() (filter, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("nested too deeply; allowed: %d levels", maxDepth)
	}
	defer func() { p.depth-- }()
	switch word := p.next(); word {
	case "":
		return nil, errors.New("a term is missing; allowed: " + filterHelp)
	case "and", "or", ")":
		return nil, fmt.Errorf("a term is missing before %q; allowed: %s", word, filterHelp)
	case "(":
		f, err := p.either()
		if err == nil && p.next() != ")" {
			err = errors.New("an opening parenthesis without a closing one")
		}
		return f, err
	case "not":
		f, err := p.term()
		return func(s *subject) verdict { return -f(s) }, err
	case "proto":
		return protocolTerm(p.next())
	case "src", "dst":
		return p.endTerm(word, p.next())
	case "net", "host", "port":
		return p.endTerm("", word)
	default:
		return wordTerm(word), nil
	}
}

// endTerm reads what follows net, host or port, of one end or of either.
func (p *parser) endTerm(end, what string) (filter, error) {
	switch what {
	case "net":
		network, err := parseNetwork(p.next())
		return networkTerm(end, network), err
	case "host":
		text := p.next()
		address, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("host %q isn't an address; allowed: one such as 10.0.0.1 or 2001:db8::1", text)
		}
		return networkTerm(end, hostNetwork(address)), nil
	case "port":
		low, high, err := parsePorts(p.next())
		return portTerm(end, low, high), err
	}
	return nil, fmt.Errorf("%s %q isn't a term; allowed: %s net, %s host or %s port", end, what, end, end, end)
}

func parseNetwork(text string) (netip.Prefix, error) {
	network, err := netip.ParsePrefix(text)
	if err != nil {
		return network, fmt.Errorf("net %q isn't a network; allowed: one such as 10.0.0.0/8 or 2001:db8::/32", text)
	}
	return network.Masked(), nil
}

// hostNetwork is the network of one address.
func hostNetwork(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen())
}

func parsePorts(text string) (low, high uint16, err error) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	from, err1 := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || from > to {
		return 0, 0, fmt.Errorf("port %q isn't a port; allowed: one such as 443 or 8000-8999", text)
	}
	return uint16(from), uint16(to), nil
}

// ofEnds judges one end of the subject, or either if none is named.
func ofEnds(end string, judge func(s *subject, d flow.Dimension) verdict) filter {
	switch end {
	case "src":
		return func(s *subject) verdict { return judge(s, flow.Source) }
	case "dst":
		return func(s *subject) verdict { return judge(s, flow.Destination) }
	}
	return func(s *subject) verdict { return max(judge(s, flow.Source), judge(s, flow.Destination)) }
}

func networkTerm(end string, network netip.Prefix) filter {
	return ofEnds(end, func(s *subject, d flow.Dimension) verdict {
		of := s.source
		if d == flow.Destination {
			of = s.destination
		}
		switch {
		case !of.IsValid():
			return unknown
		case network.Bits() <= of.Bits():
			return verdictOf(network.Contains(of.Addr()))
		case of.Contains(network.Addr()):
			return unknown // some of what was folded there may be in the network
		}
		return no
	})
}

func portTerm(end string, low, high uint16) filter {
	return ofEnds(end, func(s *subject, d flow.Dimension) verdict {
		if s.key == nil {
			return unknown
		}
		port := s.key.SourcePort
		if d == flow.Destination {
			port = s.key.DestinationPort
		}
		return verdictOf(s.key.HasPorts() && low <= port && port <= high)
	})
}

func protocolTerm(text string) (filter, error) {
	protocol, err := flow.ParseProtocol(text)
	if err != nil {
		return nil, fmt.Errorf("proto %w", err)
	}
	return func(s *subject) verdict {
		if s.key == nil {
			return unknown
		}
		return verdictOf(s.key.Protocol == protocol)
	}, nil
}

// wordTerm looks for a word; one that is a whole address or network is meant as
// such: 10.0.0.1 isn't 10.0.0.11.
func wordTerm(word string) filter {
	if address, err := netip.ParseAddr(word); err == nil {
		return networkTerm("", hostNetwork(address))
	}
	if network, err := netip.ParsePrefix(word); err == nil {
		return networkTerm("", network.Masked())
	}
	return func(s *subject) verdict {
		switch {
		case s.key != nil:
			return verdictOf(strings.Contains(flowText(s.key), word))
		case s.text != "":
			return verdictOf(strings.Contains(s.text, word))
		}
		return unknown
	}
}

// flowText is what words are looked for in.
func flowText(key *flow.Key) string {
	text := make([]byte, 0, 128)
	text = appendEnd(text, key, flow.Source)
	text = append(text, ' ')
	text = appendEnd(text, key, flow.Destination)
	text = append(text, ' ')
	text = append(text, flow.ProtocolName(key.Protocol)...)
	if name := serviceName(flow.ServiceOf(key)); name != "" {
		text = append(text, ' ')
		text = append(text, name...)
	}
	return string(text)
}

// serviceName is a service's name, empty if it has none.
func serviceName(s flow.Service) string {
	if name := s.Name(); name != "unknown" {
		return name
	}
	return ""
}

// appendEnd appends an address and, where the protocol has some, the port.
func appendEnd(to []byte, key *flow.Key, d flow.Dimension) []byte {
	if !key.HasPorts() {
		return key.Addr(d).AppendTo(to)
	}
	port := key.SourcePort
	if d == flow.Destination {
		port = key.DestinationPort
	}
	return netip.AddrPortFrom(key.Addr(d), port).AppendTo(to)
}
