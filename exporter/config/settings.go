package config

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/networks"
	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

// setting is one key of the file and the flag of the same name.
type setting struct {
	key   string // its path in the file
	help  string
	value any   // points into a Config
	rule  *rule // which values are allowed; nil if every one of the type is
	live  bool  // may change while the exporter runs
}

// rule is what a value must be besides of its type.
type rule struct {
	allowed string
	check   func() error // also says what is allowed
}

// flag returns the name of the setting's flag.
func (s *setting) flag() string { return strings.ReplaceAll(s.key, "_", "-") }

// settings lists all of a configuration's settings.
func (c *Config) settings() []setting {
	return []setting{
		{"capture.include", "Devices to capture on: a regular expression that matches the whole name.",
			&c.Capture.Include, nil, true},
		{"capture.exclude", "Devices not to capture on, even if included: a regular expression that matches the whole name.",
			&c.Capture.Exclude, nil, true},
		{"capture.layer3", "Devices without Ethernet to capture on, if included: tun, WireGuard, PPP, or lo; a regular expression that matches the whole name.",
			&c.Capture.Layer3, nil, true},
		{"capture.epoch", "How often the kernel's counters are drained.",
			&c.Capture.Epoch, within(&c.Capture.Epoch, duration(100*time.Millisecond), duration(10*time.Second)), false},
		{"capture.memory", "Memory for flow caches, ring buffer and flow table, on all CPUs together.",
			&c.Capture.Memory, within(&c.Capture.Memory, 8<<20, 64<<30), false},
		{"capture.fleet", "A network of monitored hosts, whose traffic with this host an aggregator counts once. Repeatable.",
			&c.Capture.Fleet, nil, true},
		{"capture.pin_path", "Directory in a BPF file system, such as /sys/fs/bpf/tma, where counting goes on when the exporter ends, for the next one to take over. Empty: counting ends with the exporter.",
			&c.Capture.PinPath, &rule{allowedPinPath, c.checkPinPath}, false},
		{"topk.k", "How many flows, sources, destinations and services have series of their own.",
			&c.TopK.K, within(&c.TopK.K, 1, 1000), false},
		{"topk.window", "The time over which rates of top flows, sources, destinations and services are taken.",
			&c.TopK.Window, within(&c.TopK.Window, duration(time.Second), duration(10*time.Minute)), false},
		{"topk.labels", "What the series of the top are of: addresses, or networks, by the names of networks and of services, which don't grow with the traffic.",
			&c.TopK.Labels, nil, true},
		{"epochs.host", "The name of this host in its epochs; the system's host name if empty.",
			&c.Epochs.Host, &rule{allowedHost, c.checkHost}, false},
		{"epochs.flows", "How many flows an epoch carries to aggregators; smaller ones are folded into prefixes.",
			&c.Epochs.Flows, within(&c.Epochs.Flows, 1, 100_000), true},
		{"epochs.retention", "How long epochs are kept for aggregators.",
			&c.Epochs.Retention, within(&c.Epochs.Retention, duration(10*time.Second), duration(time.Hour)), true},
		{"epochs.memory", "Memory for kept epochs; the oldest go, even before their time.",
			&c.Epochs.Memory, within(&c.Epochs.Memory, 1<<20, 4<<30), false},
		{"sketch.key_file", "File with the fleet's secret for counting distinct things, 32 hexadecimal digits. Without it the key is public, and crafted packets can drive the counts to any value.",
			&c.Sketch.KeyFile, &rule{"a readable file with 32 hexadecimal digits", c.checkKeyFile}, false},
		{"networks", "A network and its name, such as 10.0.0.0/8=corp; the longest prefix counts. In the file: a list of prefix and name. Repeatable.",
			&c.Networks, &rule{new(networks.Network).Allowed(), c.checkNetworks}, true},
	}
}

func duration(d time.Duration) yamlconf.Duration { return yamlconf.Duration(d) }

// within allows what lies between two bounds, and the bounds.
func within[T cmp.Ordered](value *T, low, high T) *rule {
	allowed := fmt.Sprintf("%v to %v", low, high)
	return &rule{allowed, func() error {
		if *value < low || *value > high {
			return fmt.Errorf("%v is out of range; allowed: %s", *value, allowed)
		}
		return nil
	}}
}

// verify returns what is wrong with the current value.
func (s *setting) verify() error {
	if s.rule == nil {
		return nil
	}
	return s.rule.check()
}

const allowedPinPath = "an absolute path without dots in the last name, such as /sys/fs/bpf/tma"

// checkPinPath refuses what a BPF file system can't have.
func (c *Config) checkPinPath() error {
	path := c.Capture.PinPath
	if path == "" || filepath.IsAbs(path) && filepath.Clean(path) == path && !strings.Contains(filepath.Base(path), ".") {
		return nil
	}
	return fmt.Errorf("%q can't be in a BPF file system; allowed: %s", path, allowedPinPath)
}

// CheckReload returns an error that names the first key in which another
// configuration differs that can't change while the exporter runs.
func (c *Config) CheckReload(other *Config) error {
	others := other.settings()
	for i, s := range c.settings() {
		if now, then := s.String(), others[i].String(); !s.live && now != then {
			return fmt.Errorf("%s: can't change from %q to %q while the exporter runs; restart it", s.key, now, then)
		}
	}
	return nil
}

// checkNetworks refuses what is wrong with the list; its entries were checked before.
func (c *Config) checkNetworks() error {
	key, err := networks.Check(c.Networks)
	if err != nil && key != "" {
		return &yamlconf.Error{Key: key, Err: err}
	}
	return err
}

// maxHost is the longest name of a host (RFC 1035, 2.3.4).
const maxHost = 253

var allowedHost = fmt.Sprintf("at most %d printable ASCII characters without a space", maxHost)

func (c *Config) checkHost() error {
	odd := strings.ContainsFunc(c.Epochs.Host, func(r rune) bool { return r <= ' ' || r > '~' })
	if odd || len(c.Epochs.Host) > maxHost {
		return fmt.Errorf("not a name; allowed: %s", allowedHost)
	}
	return nil
}

func (c *Config) checkKeyFile() error {
	_, _, err := c.Sketch.Key()
	return err
}

// Load reads a YAML file over a configuration and checks what results. A key
// file's path is relative to the file that names it.
func (c *Config) Load(file string) error {
	before := c.Sketch.KeyFile
	if err := yamlconf.Load(file, c); err != nil {
		return err
	}
	if path := c.Sketch.KeyFile; path != before && !filepath.IsAbs(path) {
		c.Sketch.KeyFile = filepath.Join(filepath.Dir(file), path)
	}
	for _, s := range c.settings() {
		if err := s.verify(); err != nil {
			e := &yamlconf.Error{File: file, Key: s.key, Err: err}
			if element := (*yamlconf.Error)(nil); errors.As(err, &element) {
				e.Key, e.Err = s.key+element.Key, element.Err
			}
			return e
		}
	}
	return nil
}

// set sets a setting from the text of its flag.
func (s *setting) set(text string) error {
	err := s.setText(text)
	if err != nil {
		return err
	}
	err = s.verify()
	if element := (*yamlconf.Error)(nil); errors.As(err, &element) {
		return element.Err
	}
	return err
}

func (s *setting) setText(text string) error {
	if l := s.list(); l != nil {
		return l.add(text)
	}
	return yamlconf.Set(text, s.value)
}

// list is a setting whose flag may be repeated.
type list interface {
	clear()
	add(text string) error
	texts() []string
}

// list returns the setting as a list, nil if it isn't one.
func (s *setting) list() list {
	switch v := s.value.(type) {
	case *[]yamlconf.Prefix:
		return listOf[yamlconf.Prefix, *yamlconf.Prefix]{v}
	case *[]networks.Network:
		return listOf[networks.Network, *networks.Network]{v}
	}
	return nil
}

// listOf is a list of what is written as one word.
type listOf[T fmt.Stringer, P interface {
	*T
	Set(text string) error
}] struct{ to *[]T }

func (l listOf[T, P]) clear() { *l.to = nil }

func (l listOf[T, P]) add(text string) error {
	var element T
	if err := P(&element).Set(text); err != nil {
		return err
	}
	*l.to = append(*l.to, element)
	return nil
}

func (l listOf[T, P]) texts() []string {
	texts := make([]string, len(*l.to))
	for i, element := range *l.to {
		texts[i] = element.String()
	}
	return texts
}

// String returns the current value as a flag writes it.
func (s *setting) String() string {
	if l := s.list(); l != nil {
		return strings.Join(l.texts(), ",")
	}
	switch v := s.value.(type) {
	case *string:
		return *v
	case *int:
		return fmt.Sprint(*v)
	case fmt.Stringer:
		return v.String()
	default:
		panic(errors.New("config: no text form of " + s.key))
	}
}
