// Package config reads the aggregator's configuration: a YAML file in which the
// targets are spelled as Prometheus spells them. Whatever is wrong in it is one
// line that names the file, the key and what is allowed.
package config

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/networks"
	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

// Configuration is the whole file. What help says of a key is in
// docs/configuration.md.
type Configuration struct {
	Global        Global         `yaml:"global"`
	ScrapeConfigs []ScrapeConfig `yaml:"scrape_configs"`
	HHH           HHH            `yaml:"hhh"`
	Cardinality   Cardinality    `yaml:"cardinality"`
	// Networks have names in the traffic matrix. An address is in the longest prefix.
	Networks   []networks.Network `yaml:"networks"`
	Retention  yamlconf.Duration  `yaml:"retention" help:"How far back questions reach."`
	Limits     Limits             `yaml:"limits"`
	Federation Federation         `yaml:"federation"`

	ignored ignored
}

// HHH says what is heavy, and along which prefixes.
type HHH struct {
	Phi      Share             `yaml:"phi" help:"From which share of the traffic on a prefix is heavy: in the metrics, and in answers to questions that don't say."`
	Window   yamlconf.Duration `yaml:"window" help:"Time over which the metrics look for heavy prefixes."`
	IPv4Step IPv4Step          `yaml:"ipv4_step" help:"Bits between two levels of IPv4 prefixes."`
	IPv6Step IPv6Step          `yaml:"ipv6_step" help:"Bits between two levels of IPv6 prefixes."`
}

// Cardinality says over which windows the metrics count distinct things.
type Cardinality struct {
	// By default 10s, 1m, 5m, 15m and 1h, as far as the retention reaches.
	Windows []yamlconf.Duration `yaml:"windows" help:"Windows over which the metrics count distinct things; by default as far as the retention reaches."`
}

// Federation is for aggregators that scrape this one.
type Federation struct {
	Name string `yaml:"name" help:"Name of this aggregator towards aggregators that scrape its /v1/epochs, which isn't there without one."`
	// Delay has to be as long as the difference between the fastest and the slowest
	// target's way here, and two epochs.
	Delay yamlconf.Duration `yaml:"delay" help:"How long after it a second is handed on; each level of aggregators adds as much to the age of what is seen. What comes later counts as a remainder."`
	Flows Size              `yaml:"flows" help:"How many flows a second carries; smaller ones are folded into prefixes."`
}

// Limits bound the memory.
type Limits struct {
	Memory            yamlconf.Bytes `yaml:"memory" help:"Memory of the process. Half of it is for what windows are made of, which folds more with age if there isn't enough; the rest is for answers and for garbage."`
	PrefixesPerBucket Size           `yaml:"prefixes_per_bucket" help:"Prefixes of a dimension that a second or ten seconds keep at most; the smallest are folded into shorter ones."`
	FlowsPerBucket    Size           `yaml:"flows_per_bucket" help:"Flows that a second or ten seconds keep at most; smaller ones count under their prefixes alone."`
	TransitFlows      Size           `yaml:"transit_flows" help:"Flows between hosts that aren't monitored, remembered so that one exporter alone counts each."`
}

// Default returns what holds for keys that the file doesn't have.
func Default() Configuration {
	return Configuration{
		Global:     Global{ScrapeTimeout: seconds(4)},
		HHH:        HHH{Phi: 0.01, Window: seconds(10), IPv4Step: 8, IPv6Step: 16},
		Retention:  seconds(3600),
		Limits:     Limits{Memory: 1 << 30, PrefixesPerBucket: 16384, FlowsPerBucket: 8192, TransitFlows: 1 << 18},
		Federation: Federation{Delay: seconds(3), Flows: 5000},
	}
}

func seconds(n int) yamlconf.Duration { return yamlconf.Duration(time.Duration(n) * time.Second) }

// Load reads and checks a file. Errors are one line.
func Load(file string) (Configuration, error) {
	c := Default()
	if err := yamlconf.Load(file, &c); err != nil {
		return Configuration{}, err
	}
	c.setWindows()
	c.setJobs(filepath.Dir(file))
	if err := c.check(); err != nil {
		err.File = file
		return Configuration{}, err
	}
	return c, nil
}

// defaultWindows are those of the cardinality metrics.
var defaultWindows = []yamlconf.Duration{seconds(10), seconds(60), seconds(300), seconds(900), seconds(3600)}

func (c *Configuration) setWindows() {
	if c.Cardinality.Windows != nil {
		return
	}
	for _, window := range defaultWindows {
		if window <= c.Retention {
			c.Cardinality.Windows = append(c.Cardinality.Windows, window)
		}
	}
}

// The least and the greatest of durations.
const (
	minRetention, maxRetention = 15 * time.Second, time.Hour
	minTimeout, maxTimeout     = time.Second, 10 * time.Minute
	minWindow                  = time.Second
	minDelay, maxDelay         = 2 * time.Second, 9 * time.Second
)

// The least and the greatest of limits.memory.
const minMemory, maxMemory yamlconf.Bytes = 128 << 20, 1 << 40

// check looks at what concerns several keys, and at bounds.
func (c *Configuration) check() *yamlconf.Error {
	if err := between("retention", c.Retention, minRetention, maxRetention); err != nil {
		return err
	}
	if err := between("federation.delay", c.Federation.Delay, minDelay, maxDelay); err != nil {
		return err
	}
	if err := between("hhh.window", c.HHH.Window, minWindow, time.Duration(c.Retention)); err != nil {
		return err
	}
	for i, window := range c.Cardinality.Windows {
		key := fmt.Sprintf("cardinality.windows[%d]", i)
		if err := between(key, window, minWindow, time.Duration(c.Retention)); err != nil {
			return err
		}
	}
	if c.Limits.Memory < minMemory || c.Limits.Memory > maxMemory {
		return wrong("limits.memory", "%q is out of range; allowed: %s to %s", c.Limits.Memory, minMemory, maxMemory)
	}
	if err := c.checkNetworks(); err != nil {
		return err
	}
	return c.checkJobs()
}

// maxNames bounds the matrix of networks, which has a series for each pair that has
// traffic, those that are unnamed and unknown included.
const maxNames = 64

func (c *Configuration) checkNetworks() *yamlconf.Error {
	if key, err := networks.Check(c.Networks); err != nil {
		return &yamlconf.Error{Key: "networks" + key, Err: err}
	}
	names := make(map[networks.Name]bool)
	for _, network := range c.Networks {
		names[network.Name] = true
	}
	if len(names) > maxNames {
		return wrong("networks", "%d names; allowed: at most %d, which networks may share", len(names), maxNames)
	}
	return nil
}

// NetworkNames returns what finds the names.
func (c *Configuration) NetworkNames() *networks.Table {
	return networks.NewTable(c.Networks)
}

func between(key string, d yamlconf.Duration, least, greatest time.Duration) *yamlconf.Error {
	if time.Duration(d) >= least && time.Duration(d) <= greatest {
		return nil
	}
	return wrong(key, "%q is out of range; allowed: %s to %s", d, yamlconf.Duration(least), yamlconf.Duration(greatest))
}

func wrong(key, format string, arguments ...any) *yamlconf.Error {
	return &yamlconf.Error{Key: key, Err: fmt.Errorf(format, arguments...)}
}

// Share is a part of a whole.
type Share float64

// Allowed says how great a share is.
func (s *Share) Allowed() string { return "a number from 0.0001 to 1" }

// UnmarshalText parses a share.
func (s *Share) UnmarshalText(text []byte) error {
	share, err := strconv.ParseFloat(string(text), 64)
	if err != nil || !(share >= 0.0001 && share <= 1) {
		return fmt.Errorf("%q isn't a share of the traffic; allowed: %s", text, s.Allowed())
	}
	*s = Share(share)
	return nil
}

// IPv4Step is the distance of levels in the IPv4 hierarchy, in bits.
type IPv4Step int

// Allowed lists the steps.
func (s *IPv4Step) Allowed() string { return "1, 2, 4, 8, 16" }

// UnmarshalText parses a step.
func (s *IPv4Step) UnmarshalText(text []byte) error { return step((*int)(s), text, s.Allowed()) }

// IPv6Step is the distance of levels in the IPv6 hierarchy, in bits.
type IPv6Step int

// Allowed lists the steps.
func (s *IPv6Step) Allowed() string { return "4, 8, 16, 32" }

// UnmarshalText parses a step.
func (s *IPv6Step) UnmarshalText(text []byte) error { return step((*int)(s), text, s.Allowed()) }

func step(to *int, text []byte, allowed string) error {
	for _, choice := range strings.Split(allowed, ", ") {
		if choice == string(text) {
			*to, _ = strconv.Atoi(choice)
			return nil
		}
	}
	return fmt.Errorf("%q isn't a step of prefix lengths; allowed: %s", text, allowed)
}

// Size is a number of entries.
type Size int

// The least and the greatest Size.
const minSize, maxSize = 64, 1 << 26

// Allowed says how many entries there may be.
func (s *Size) Allowed() string { return fmt.Sprintf("a number from %d to %d", minSize, maxSize) }

// UnmarshalText parses a number of entries.
func (s *Size) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 32)
	if err != nil || n < minSize || n > maxSize {
		return fmt.Errorf("%q isn't a number of entries; allowed: %s", text, s.Allowed())
	}
	*s = Size(n)
	return nil
}
