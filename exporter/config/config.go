// Package config is the exporter's configuration: a YAML file and flags that say
// the same things by the same names (capture.key_file and --capture.key-file),
// explicit flags going before the file and the file before the defaults.
//
// Every wrong value is one line that names the file or the flag, the key and
// what is allowed.
package config

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/networks"
	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

// Config is what the exporter does, apart from what it serves the web with.
type Config struct {
	Capture Capture `yaml:"capture"`
	TopK    TopK    `yaml:"topk"`
	Epochs  Epochs  `yaml:"epochs"`
	Sketch  Sketch  `yaml:"sketch"`
	// Networks are those that have names.
	Networks []networks.Network `yaml:"networks"`
}

// Capture is where packets are counted, how often and at what cost.
type Capture struct {
	// Include and Exclude match whole device names; Exclude goes first.
	Include yamlconf.Regexp `yaml:"include"`
	Exclude yamlconf.Regexp `yaml:"exclude"`
	// Layer3 matches the whole names of those that are not Ethernet and count all the
	// same: tun, WireGuard, PPP, the loopback. None by default.
	Layer3 yamlconf.Regexp   `yaml:"layer3"`
	Epoch  yamlconf.Duration `yaml:"epoch"`
	// Memory is for caches, ring buffer and flow table together, whatever the
	// number of CPUs.
	Memory yamlconf.Bytes `yaml:"memory"`
	// Fleet holds the networks of all monitored hosts.
	Fleet []yamlconf.Prefix `yaml:"fleet"`
	// PinPath is a directory in a BPF file system; empty for none.
	PinPath string `yaml:"pin_path"`
}

// TopK bounds the series by address: at most K and one for the rest a metric.
type TopK struct {
	K      int               `yaml:"k"`
	Window yamlconf.Duration `yaml:"window"`
	Labels Labels            `yaml:"labels"`
}

// Labels say what the series of the top are of.
type Labels string

// The values of Labels.
const (
	LabelAddresses Labels = "addresses"
	LabelNetworks  Labels = "networks" // by name, and services with a name
)

// Allowed says which labels there are.
func (l *Labels) Allowed() string { return "addresses, networks" }

// UnmarshalText takes one of the values.
func (l *Labels) UnmarshalText(text []byte) error {
	switch Labels(text) {
	case LabelAddresses, LabelNetworks:
		*l = Labels(text)
		return nil
	}
	return fmt.Errorf("%q isn't what labels can be; allowed: %s", text, l.Allowed())
}

// String returns the value as it is written.
func (l Labels) String() string { return string(l) }

// Epochs is what /v1/epochs offers to aggregators.
type Epochs struct {
	// Host is the name in the epochs; empty for the system's host name.
	Host string `yaml:"host"`
	// Flows is how many of an epoch's flows keep their 5-tuple on the way out.
	Flows     int               `yaml:"flows"`
	Retention yamlconf.Duration `yaml:"retention"`
	// Memory bounds what is kept, even if that is less than Retention.
	Memory yamlconf.Bytes `yaml:"memory"`
}

// Sketch is how distinct things are counted.
type Sketch struct {
	// KeyFile holds the fleet's secret as 32 hexadecimal digits; see Key.
	KeyFile string `yaml:"key_file"`
}

// Default returns the configuration of an exporter without file and flags.
func Default() Config {
	return Config{
		Capture: Capture{
			Include: yamlconf.MustRegexp(".*"),
			Exclude: yamlconf.MustRegexp(""),
			Layer3:  yamlconf.MustRegexp(""),
			Epoch:   yamlconf.Duration(500 * time.Millisecond),
			Memory:  64 << 20,
		},
		TopK:   TopK{K: 20, Window: yamlconf.Duration(15 * time.Second), Labels: LabelAddresses},
		Epochs: Epochs{Flows: 1000, Retention: yamlconf.Duration(2 * time.Minute), Memory: 15 << 20},
	}
}

// FleetPrefixes returns Fleet as the packages that capture and fold take it.
func (c *Capture) FleetPrefixes() []netip.Prefix {
	prefixes := make([]netip.Prefix, len(c.Fleet))
	for i, p := range c.Fleet {
		prefixes[i] = p.Prefix
	}
	return prefixes
}

// NetworkNames returns the names that the labels of the top are made of, nil where
// those are addresses.
func (c *Config) NetworkNames() *networks.Table {
	if c.TopK.Labels != LabelNetworks {
		return nil
	}
	return networks.NewTable(c.Networks)
}
