package networks

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

func network(prefix, name string) Network {
	return Network{yamlconf.Prefix{Prefix: netip.MustParsePrefix(prefix)}, Name(name)}
}

func TestSet(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8=corp":        "",
		"2001:db8::/32=zone-1.b": "",
		"::/0=Büro_2":            "",
		"10.0.0.0/8":             `"10.0.0.0/8" has no name; allowed: a network and its name such as 10.0.0.0/8=corp`,
		"10.0.0.1/8=corp":        `"10.0.0.1/8" has bits beyond its length; allowed: 10.0.0.0/8`,
		"10.0.0.0/8=":            `"" isn't a name; allowed: a name such as corp or zone-1, of at most 63 letters, digits, dots, hyphens and underscores`,
		"10.0.0.0/8=a b":         `"a b" isn't a name; allowed: a name such as corp or zone-1, of at most 63 letters, digits, dots, hyphens and underscores`,
		"10.0.0.0/8=a=b":         `"a=b" isn't a name; allowed: a name such as corp or zone-1, of at most 63 letters, digits, dots, hyphens and underscores`,
		"10.0.0.0/8=10.1.2.3":    `"10.1.2.3" isn't a name; allowed: a name such as corp or zone-1, of at most 63 letters, digits, dots, hyphens and underscores`,
		"10.0.0.0/8=Other":       `"Other" is reserved; allowed: a name other than other, unknown, unnamed`,
	} {
		var n Network
		err := n.Set(text)
		if want == "" {
			if err != nil || n.String() != text {
				t.Errorf("%s: got %s, %v", text, n, err)
			}
		} else if err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
	if err := new(Name).UnmarshalText([]byte(strings.Repeat("x", 64))); err == nil {
		t.Error("64 letters were taken")
	}
	if err := new(Name).UnmarshalText([]byte{'a', 0xff}); err == nil {
		t.Error("what isn't UTF-8 was taken")
	}
}

// The oracle of look-ups goes through the list.
func slowLookup(list []Network, a netip.Addr) string {
	name, length := Unnamed, -1
	for _, n := range list {
		if n.Prefix.Contains(a) && n.Prefix.Bits() > length {
			name, length = string(n.Name), n.Prefix.Bits()
		}
	}
	return name
}

func TestLookup(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	address := func() netip.Addr {
		if random.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{10, byte(random.IntN(4)), byte(random.IntN(2)), byte(random.IntN(256))})
		}
		return netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, byte(random.IntN(4)), 15: byte(random.IntN(256))})
	}
	for range 200 {
		var list []Network
		seen := map[netip.Prefix]bool{}
		for range random.IntN(20) {
			a := address()
			p, _ := a.Prefix(random.IntN(a.BitLen() + 1))
			if !seen[p] {
				seen[p] = true
				list = append(list, network(p.String(), string(rune('a'+random.IntN(3)))))
			}
		}
		table := NewTable(list)
		for range 200 {
			a := address()
			if got, want := table.Name(table.Lookup(a)), slowLookup(list, a); got != want {
				t.Fatalf("%v in %v: got %s, want %s", a, list, got, want)
			}
			p, _ := a.Prefix(a.BitLen() - random.IntN(5))
			number, ok := table.LookupPrefix(p)
			if same := slowSame(list, p); ok != same || ok && table.Name(number) != slowLookup(list, p.Addr()) {
				t.Fatalf("%v in %v: got %d, %t; want %t", p, list, number, ok, same)
			}
		}
	}
}

// slowSame says whether all named networks in a prefix have its own name.
func slowSame(list []Network, p netip.Prefix) bool {
	name, length := Unnamed, -1
	for _, n := range list {
		if n.Prefix.Bits() <= p.Bits() && n.Prefix.Contains(p.Addr()) && n.Prefix.Bits() > length {
			name, length = string(n.Name), n.Prefix.Bits()
		}
	}
	for _, n := range list {
		if n.Prefix.Bits() > p.Bits() && p.Contains(n.Prefix.Addr()) && string(n.Name) != name {
			return false
		}
	}
	return true
}

func TestCheck(t *testing.T) {
	many := make([]Network, Max+1)
	for _, test := range []struct {
		list      []Network
		key, want string
	}{
		{[]Network{network("10.0.0.0/8", "a"), network("10.0.0.0/9", "a")}, "", ""},
		{[]Network{network("10.0.0.0/8", "a"), network("10.0.0.0/8", "b")}, "[1].prefix", "10.0.0.0/8 is there twice; allowed: each network once"},
		{[]Network{{Name: "a"}}, "[0].prefix", "missing; allowed: a network such as 10.0.0.0/8 or 2001:db8::/32"},
		{[]Network{network("10.0.0.0/8", "")}, "[0].name", "missing; allowed: a name such as corp or zone-1, of at most 63 letters, digits, dots, hyphens and underscores"},
		{many, "", "1001 networks; allowed: at most 1000"},
	} {
		key, err := Check(test.list)
		if key != test.key || (err == nil) != (test.want == "") || err != nil && err.Error() != test.want {
			t.Errorf("got %s: %v; want %s: %s", key, err, test.key, test.want)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	var list []Network
	for i := range 256 {
		list = append(list, network(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i)}), 16).String(), "a"))
	}
	table := NewTable(list)
	i := uint32(0)
	for b.Loop() {
		i += 2654435761
		table.Lookup(netip.AddrFrom4([4]byte{10, byte(i), byte(i >> 8), byte(i >> 16)}))
	}
}
