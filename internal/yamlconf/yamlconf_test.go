package yamlconf_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

type job struct {
	Name     string            `yaml:"name"`
	Interval yamlconf.Duration `yaml:"interval"`
}

func (j *job) SetDefaults() { j.Interval = yamlconf.Duration(time.Minute) }

// own decodes itself, as Prometheus' types do.
type own struct{ sum int }

func (o *own) UnmarshalYAML(unmarshal func(any) error) error {
	var numbers []int
	if err := unmarshal(&numbers); err != nil {
		return err
	}
	for _, n := range numbers {
		o.sum += n
	}
	return nil
}

// strict decodes itself from keys of its own.
type strict struct {
	Inner struct {
		Name string `yaml:"name"`
	} `yaml:"inner"`
}

func (s *strict) UnmarshalYAML(unmarshal func(any) error) error {
	type plain strict
	return unmarshal((*plain)(s))
}

// free takes any keys.
type free struct {
	Keys map[string]int `yaml:",inline"`
}

type common struct {
	Verbose bool `yaml:"verbose"`
}

type settings struct {
	common `yaml:"-"`
	Shared common `yaml:",inline"`
	Name   string `yaml:"name"`
	Hidden string `yaml:"-"`
	Inner  struct {
		Epoch  yamlconf.Duration `yaml:"epoch"`
		Memory yamlconf.Bytes    `yaml:"memory"`
		Match  yamlconf.Regexp   `yaml:"match"`
	} `yaml:"inner"`
	Phi    float64           `yaml:"phi"`
	K      int               `yaml:"k"`
	Small  uint8             `yaml:"small"`
	Fleet  []yamlconf.Prefix `yaml:"fleet"`
	Jobs   []*job            `yaml:"jobs"`
	Labels map[string]string `yaml:"labels"`
	Own    own               `yaml:"own"`
	Strict *strict           `yaml:"strict"`
	Free   free              `yaml:"free"`
}

// Ignore makes settings tolerant of one key.
func (s *settings) Ignore(key, _ string) bool { return key == "theirs" }

func defaults() settings {
	var s settings
	s.Name, s.K, s.Phi = "default", 20, 0.01
	s.Inner.Epoch = yamlconf.Duration(500 * time.Millisecond)
	s.Fleet = make([]yamlconf.Prefix, 3)
	return s
}

func TestDecodeKeepsDefaults(t *testing.T) {
	for name, text := range map[string]string{
		"no bytes":     "",
		"a comment":    "# nothing\n",
		"empty":        "---\n",
		"empty keys":   "inner:\nname:\nfleet:\njobs: ~\n",
		"empty struct": "inner: {}\n",
	} {
		t.Run(name, func(t *testing.T) {
			got := defaults()
			if err := yamlconf.Decode("f.yml", []byte(text), &got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, defaults()) {
				t.Errorf("got %+v, want the defaults", got)
			}
		})
	}
}

func TestDecode(t *testing.T) {
	got := defaults()
	err := yamlconf.Decode("f.yml", []byte(`
verbose: true
name: 12
inner: {memory: 64MiB, match: "eth.*"}
phi: 1e-3
small: 255
fleet: [10.0.0.0/8, "2001:db8::/32"]
jobs:
  - &first {name: a}
  - {name: b, interval: 1h30m}
  - *first
  - {<<: *first, interval: 2m}
labels: {x: y}
own: [1, 2, 3]
strict: {inner: {name: s}}
free: {a: 1, b: 2}
theirs: {x: [y]}
`), &got)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	check("inline", got.Shared.Verbose, true)
	check("a number as text", got.Name, "12")
	check("a default beside a set key", got.Inner.Epoch.String(), "500ms")
	check("bytes", got.Inner.Memory, yamlconf.Bytes(64<<20))
	check("float", got.Phi, 0.001)
	check("int untouched", got.K, 20)
	check("uint8", got.Small, uint8(255))
	check("a list replaces the default", fmt.Sprint(got.Fleet), "[10.0.0.0/8 2001:db8::/32]")
	check("an element's default", *got.Jobs[0], job{"a", yamlconf.Duration(time.Minute)})
	check("an element's own", *got.Jobs[1], job{"b", yamlconf.Duration(90 * time.Minute)})
	check("an alias", *got.Jobs[2], *got.Jobs[0])
	check("a merge", *got.Jobs[3], job{"a", yamlconf.Duration(2 * time.Minute)})
	check("a type with keys that decodes itself", got.Strict.Inner.Name, "s")
	check("free keys", got.Free.Keys, map[string]int{"a": 1, "b": 2})
	check("map", got.Labels, map[string]string{"x": "y"})
	check("a type that decodes itself", got.Own.sum, 6)
}

func TestDecodeErrors(t *testing.T) {
	const keys = "fleet, free, inner, jobs, k, labels, name, own, phi, small, strict, verbose"
	for _, test := range []struct{ text, want string }{
		{"nme: x", "nme: unknown key; allowed: " + keys},
		{"common: {}", "common: unknown key; allowed: " + keys},
		{"hidden: x", "hidden: unknown key; allowed: " + keys},
		{"inner: {epok: 1s}", "inner.epok: unknown key; allowed: epoch, match, memory"},
		{"jobs: [{name: a}, {nam: b}]", "jobs[1].nam: unknown key; allowed: interval, name"},
		{`"a b": 1`, `"a b": unknown key; allowed: ` + keys},
		{`"a\nb": 1`, `"a\nb": unknown key; allowed: ` + keys},
		{"<<: [a]", "<<: not a map to merge; allowed: an alias of a map, or a list of such"},
		{"<<: {nam: x}", "nam: unknown key; allowed: " + keys},
		{"strict: {inner: {nam: x}}", "strict.inner.nam: unknown key; allowed: name"},
		{"[x]: 1", "a key is a list; allowed: a word"},
		{"name: a\nname: b", "name: the key is there twice; allowed: once"},
		{"inner:\n  epoch: 1s\n  epoch: 2s", "inner.epoch: the key is there twice; allowed: once"},
		{"labels: {a: b, a: c}", "labels.a: the key is there twice; allowed: once"},
		{"- a", "a list; allowed: a map with the keys " + keys},
		{"inner: 5", `inner: "5"; allowed: a map with the keys epoch, match, memory`},
		{"fleet: 10.0.0.0/8", `fleet: "10.0.0.0/8"; allowed: a list`},
		{"fleet: [10.0.0.0/8, 10.0.0.1/8]", "fleet[1]: \"10.0.0.1/8\" has bits beyond its length; allowed: 10.0.0.0/8"},
		{"fleet: [10.0.0.0]", `fleet[0]: "10.0.0.0" isn't a network; allowed: a network such as 10.0.0.0/8 or 2001:db8::/32`},
		{"fleet: ['::ffff:10.0.0.0/104']", `fleet[0]: "::ffff:10.0.0.0/104" isn't a network; allowed: a network such as 10.0.0.0/8 or 2001:db8::/32`},
		{"jobs: [~]", "jobs[0]: empty; allowed: a value"},
		{"labels: [a]", "labels: a list; allowed: a map"},
		{"labels: {a: {}}", "labels.a: a map; allowed: a word"},
		{"name: [a]", "name: a list; allowed: a word"},
		{"k: many", `k: "many" isn't a whole number; allowed: a whole number such as 20`},
		{"k: 1.5", `k: "1.5" isn't a whole number; allowed: a whole number such as 20`},
		{"small: 256", `small: "256" isn't a whole number from 0 on; allowed: a whole number such as 20`},
		{"small: -1", `small: "-1" isn't a whole number from 0 on; allowed: a whole number such as 20`},
		{"phi: .nan", `phi: ".nan" isn't a number; allowed: a number such as 0.01`},
		{"phi: nan", `phi: "nan" isn't a number; allowed: a number such as 0.01`},
		{"verbose: yes", `verbose: "yes" isn't a boolean; allowed: true, false`},
		{"inner: {epoch: {}}", "inner.epoch: a map; allowed: a duration such as 500ms, 15s or 1h"},
		{"inner: {epoch: 500}", `inner.epoch: "500" isn't a duration; allowed: a duration such as 500ms, 15s or 1h`},
		{"inner: {epoch: -1s}", `inner.epoch: "-1s" isn't a duration; allowed: a duration such as 500ms, 15s or 1h`},
		{"inner: {memory: 64MB}", `inner.memory: "64MB" isn't a size; allowed: a size such as 512KiB, 64MiB or 1GiB`},
		{"inner: {memory: 99999999TiB}", `inner.memory: "99999999TiB" isn't a size; allowed: a size such as 512KiB, 64MiB or 1GiB`},
		{"inner: {match: 'a('}", "inner.match: \"a(\" isn't a regular expression (missing closing ): `a(`); allowed: a regular expression (RE2) such as eth.*|bond0"},
		{"inner: {match: 'a)(b'}", "inner.match: \"a)(b\" isn't a regular expression (unexpected ): `a)(b`); allowed: a regular expression (RE2) such as eth.*|bond0"},
		{"own: [a]", "own: unmarshal errors: line 1: cannot unmarshal !!str `a` into int"},
		{"name: '" + strings.Repeat("x", 100) + "'\nk: '" + strings.Repeat("x", 100) + "'",
			`k: "` + strings.Repeat("x", 64) + `"... isn't a whole number; allowed: a whole number such as 20`},
		{"name: a\n---\nname: b", "more than one document; allowed: one"},
		{"name: [a", "line 1: did not find expected ',' or ']'; allowed: YAML"},
		{"name: *x", "unknown anchor 'x' referenced; allowed: YAML"},
		{"name: \xff", "invalid leading UTF-8 octet; allowed: YAML"},
	} {
		t.Run(test.text, func(t *testing.T) {
			got := defaults()
			err := yamlconf.Decode("f.yml", []byte(test.text), &got)
			if err == nil {
				t.Fatalf("no error, want %q", test.want)
			}
			if err.Error() != "f.yml: "+test.want {
				t.Errorf("got  %s\nwant f.yml: %s", err, test.want)
			}
		})
	}
}

// Aliases that expand without end, or to more than memory holds, are refused.
func TestDecodeBoundsAliases(t *testing.T) {
	var wide strings.Builder
	wide.WriteString("chain:\n  a0: &a0 {}\n")
	for i := 1; i < 30; i++ {
		fmt.Fprintf(&wide, "  a%d: &a%d {l: *a%d, r: *a%d}\n", i, i, i-1, i-1)
	}
	for _, test := range []struct{ name, text, want string }{
		{"endless", "root: &r {l: *r}", "f.yml: nested too deeply; allowed: 64 levels"},
		{"immense", wide.String(), " too large when its aliases are expanded; allowed: 1048576 values"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var into struct {
				Root  nest            `yaml:"root"`
				Chain map[string]nest `yaml:"chain"`
			}
			err := yamlconf.Decode("f.yml", []byte(test.text), &into)
			if err == nil || !strings.HasSuffix(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

type nest struct {
	L *nest `yaml:"l"`
	R *nest `yaml:"r"`
}

func TestLoad(t *testing.T) {
	var s settings
	missing := filepath.Join(t.TempDir(), "missing.yml")
	want := missing + ": no such file or directory; allowed: a readable YAML file"
	if err := yamlconf.Load(missing, &s); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	file := filepath.Join(t.TempDir(), "f.yml")
	if err := os.WriteFile(file, []byte("name: x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := yamlconf.Load(file, &s); err != nil || s.Name != "x" {
		t.Errorf("got %q, %v", s.Name, err)
	}
}

func TestSetTakesWhatDecodeTakes(t *testing.T) {
	var k int
	if err := yamlconf.Set("7", &k); err != nil || k != 7 {
		t.Errorf("got %d, %v", k, err)
	}
	err := yamlconf.Set("x", &k)
	if want := `"x" isn't a whole number; allowed: a whole number such as 20`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestRegexpIsAnchored(t *testing.T) {
	for _, test := range []struct {
		pattern, text string
		want          bool
	}{
		{"eth", "eth0", false},
		{"eth.*", "eth0", true},
		{"a|b", "ab", false},
		{"a|b", "b", true},
		{"", "", true},
		{"", "x", false},
		{".*", "a\nb", true},
	} {
		if got := yamlconf.MustRegexp(test.pattern).MatchString(test.text); got != test.want {
			t.Errorf("%q matches %q: got %t", test.pattern, test.text, got)
		}
	}
	var r yamlconf.Regexp
	if err := r.Set(`\Qa`); err == nil {
		t.Error("a quotation that swallows the anchor was taken")
	}
}

func TestLeavesRoundTrip(t *testing.T) {
	type leaves struct {
		D yamlconf.Duration `yaml:"d"`
		B yamlconf.Bytes    `yaml:"b"`
		R yamlconf.Regexp   `yaml:"r"`
		P yamlconf.Prefix   `yaml:"p"`
	}
	for _, text := range []string{
		"d: 1h30m\nb: 64MiB\nr: eth.*\np: 10.0.0.0/8\n",
		"d: 0s\nb: 0B\nr: \"\"\np: ::/0\n",
		"d: 500ms\nb: 1025B\nr: a|b\np: 192.0.2.1/32\n",
	} {
		var got leaves
		if err := yamlconf.Decode("f", []byte(text), &got); err != nil {
			t.Fatal(err)
		}
		written, err := yaml.Marshal(got)
		if err != nil || string(written) != text {
			t.Errorf("got %q, %v; want %q", written, err, text)
		}
	}
}
