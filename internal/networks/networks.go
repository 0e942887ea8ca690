// Package networks names networks: the department, zone or provider that an address
// belongs to, by its longest prefix. It is the configuration's list of names, and the
// look-up that is made of it.
package networks

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	"github.com/gaissmai/bart"

	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

const (
	// Unnamed is what an address is called that is in no named network.
	Unnamed = "unnamed"
	// Unknown is the network of traffic of which it isn't known any more in which it is.
	Unknown = "unknown"
)

// Max is the most networks that can have names.
const Max = 1000

// Network is one entry of the list.
type Network struct {
	Prefix yamlconf.Prefix `yaml:"prefix" help:"A network that has a name; of several the longest counts."`
	Name   Name            `yaml:"name" help:"Its name; networks may share one."`
}

// Allowed says what a network looks like as a flag.
func (n *Network) Allowed() string { return "a network and its name such as 10.0.0.0/8=corp" }

// Set is for flags: prefix=name.
func (n *Network) Set(text string) error {
	prefix, name, found := strings.Cut(text, "=")
	if !found {
		return fmt.Errorf("%q has no name; allowed: %s", text, n.Allowed())
	}
	if err := n.Prefix.Set(prefix); err != nil {
		return err
	}
	return n.Name.UnmarshalText([]byte(name))
}

// String returns the network as Set takes it.
func (n Network) String() string { return n.Prefix.String() + "=" + string(n.Name) }

// Name is the name of a network. Several networks may share it.
type Name string

// maxName is the longest name, in bytes.
const maxName = 63

// reserved are names with a meaning of their own where names are labels.
var reserved = []string{"other", Unknown, Unnamed}

// Allowed says what a name looks like.
func (n *Name) Allowed() string {
	return fmt.Sprintf("a name such as corp or zone-1, of at most %d letters, digits, dots, hyphens and underscores", maxName)
}

// UnmarshalText takes a name.
func (n *Name) UnmarshalText(text []byte) error {
	name := string(text)
	odd := strings.ContainsFunc(name, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(".-_", r)
	})
	_, notAddress := netip.ParseAddr(name)
	if name == "" || len(name) > maxName || odd || notAddress == nil {
		return fmt.Errorf("%q isn't a name; allowed: %s", name[:min(len(name), maxName+1)], n.Allowed())
	}
	for _, taken := range reserved {
		if strings.EqualFold(name, taken) {
			return fmt.Errorf("%q is reserved; allowed: a name other than %s", name, strings.Join(reserved, ", "))
		}
	}
	*n = Name(name)
	return nil
}

// Check says what is wrong with a list as a whole: the key within the list, such as
// [2].prefix, is empty if that is all of it.
func Check(list []Network) (key string, err error) {
	if len(list) > Max {
		return "", fmt.Errorf("%d networks; allowed: at most %d", len(list), Max)
	}
	seen := map[netip.Prefix]bool{}
	for i := range list {
		n := &list[i]
		at := fmt.Sprintf("[%d]", i)
		switch {
		case !n.Prefix.IsValid():
			return at + ".prefix", fmt.Errorf("missing; allowed: %s", n.Prefix.Allowed())
		case n.Name == "":
			return at + ".name", fmt.Errorf("missing; allowed: %s", n.Name.Allowed())
		case seen[n.Prefix.Prefix]:
			return at + ".prefix", fmt.Errorf("%s is there twice; allowed: each network once", n.Prefix)
		}
		seen[n.Prefix.Prefix] = true
	}
	return "", nil
}

// Table finds the name of an address. It is immutable.
type Table struct {
	names   []string // that of Unnamed first
	numbers map[string]uint16
	table   bart.Table[uint16]
}

// NewTable returns the table of a list that Check takes.
func NewTable(list []Network) *Table {
	t := &Table{names: []string{Unnamed}, numbers: map[string]uint16{Unnamed: 0}}
	for _, n := range list {
		name := string(n.Name)
		if _, ok := t.numbers[name]; !ok {
			t.numbers[name] = uint16(len(t.names))
			t.names = append(t.names, name)
		}
		t.table.Insert(n.Prefix.Prefix, t.numbers[name])
	}
	return t
}

// Len is how many names there are, Unnamed included: numbers are below it.
func (t *Table) Len() int { return len(t.names) }

// Name returns the name of a number.
func (t *Table) Name(number uint16) string { return t.names[number] }

// Names returns all names by their numbers. It must not be changed.
func (t *Table) Names() []string { return t.names }

// Number is the inverse of Name.
func (t *Table) Number(name string) (number uint16, ok bool) {
	number, ok = t.numbers[name]
	return number, ok
}

// Lookup returns the number of an address's name, that of the longest prefix it is
// in. IPv4 must not be mapped.
func (t *Table) Lookup(a netip.Addr) uint16 {
	number, _ := t.table.Lookup(a) // 0 is Unnamed
	return number
}

// LookupPrefix returns the number of the name that all addresses of a prefix share,
// and false if they don't.
func (t *Table) LookupPrefix(p netip.Prefix) (number uint16, ok bool) {
	number, _ = t.table.LookupPrefix(p)
	for _, inner := range t.table.Subnets(p) {
		if inner != number {
			return 0, false
		}
	}
	return number, true
}
