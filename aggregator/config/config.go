// Package config reads the aggregator's configuration: a YAML file in which the
// targets are spelled as Prometheus spells them. Whatever is wrong in it is one
// line that names the file, the key and what is allowed.
package config

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

// Configuration is the whole file. What help says of a key is in
// docs/configuration.md.
type Configuration struct {
	ScrapeConfigs []ScrapeConfig    `yaml:"scrape_configs"`
	HHH           HHH               `yaml:"hhh"`
	Cardinality   Cardinality       `yaml:"cardinality"`
	Retention     yamlconf.Duration `yaml:"retention" help:"How far back questions reach."`
	Limits        Limits            `yaml:"limits"`
}

// ScrapeConfig is a group of exporters that are scraped alike.
type ScrapeConfig struct {
	JobName     string `yaml:"job_name" help:"Label job of the targets, for relabelling."`
	Scheme      Scheme `yaml:"scheme" help:"How the exporters are asked."`
	MetricsPath Path   `yaml:"metrics_path" help:"Where an exporter has its epochs."`
	// ScrapeTimeout is after how long without an answer an exporter is down. It is
	// asked to answer in half of that, even if nothing happened.
	ScrapeTimeout  yamlconf.Duration `yaml:"scrape_timeout" help:"After how long without an answer an exporter is down."`
	StaticConfigs  []StaticConfig    `yaml:"static_configs"`
	RelabelConfigs []RelabelConfig   `yaml:"relabel_configs"`
}

// StaticConfig is a list of targets with common labels.
type StaticConfig struct {
	Targets []Address         `yaml:"targets" help:"The exporters."`
	Labels  map[string]string `yaml:"labels" help:"Labels of these targets, for relabelling."`
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
		HHH:       HHH{Phi: 0.01, Window: seconds(10), IPv4Step: 8, IPv6Step: 16},
		Retention: seconds(3600),
		Limits:    Limits{Memory: 1 << 30, PrefixesPerBucket: 16384, FlowsPerBucket: 8192, TransitFlows: 1 << 18},
	}
}

func seconds(n int) yamlconf.Duration { return yamlconf.Duration(time.Duration(n) * time.Second) }

// SetDefaults makes ScrapeConfig a yamlconf.Defaulter.
func (c *ScrapeConfig) SetDefaults() {
	*c = ScrapeConfig{Scheme: "http", MetricsPath: "/v1/epochs", ScrapeTimeout: seconds(4)}
}

// Load reads and checks a file. Errors are one line.
func Load(file string) (Configuration, error) {
	c := Default()
	if err := yamlconf.Load(file, &c); err != nil {
		return Configuration{}, err
	}
	c.setWindows()
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
	minTimeout, maxTimeout     = time.Second, time.Minute
	minWindow                  = time.Second
)

// The least and the greatest of limits.memory.
const minMemory, maxMemory yamlconf.Bytes = 128 << 20, 1 << 40

// check looks at what concerns several keys, and at bounds.
func (c *Configuration) check() *yamlconf.Error {
	if err := between("retention", c.Retention, minRetention, maxRetention); err != nil {
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
	return c.checkTargets()
}

func (c *Configuration) checkTargets() *yamlconf.Error {
	jobs, targets := make(map[string]bool), make(map[Address]bool)
	for i, job := range c.ScrapeConfigs {
		key := fmt.Sprintf("scrape_configs[%d]", i)
		switch {
		case job.JobName == "":
			return wrong(key+".job_name", `"" isn't a job's name; allowed: any text`)
		case jobs[job.JobName]:
			return wrong(key+".job_name", "%q is there twice; allowed: a name of its own for each job", job.JobName)
		}
		jobs[job.JobName] = true
		if err := between(key+".scrape_timeout", job.ScrapeTimeout, minTimeout, maxTimeout); err != nil {
			return err
		}
		if err := job.checkRelabelling(key); err != nil {
			return err
		}
		for j, static := range job.StaticConfigs {
			for k, target := range static.Targets {
				if targets[target] {
					return wrong(fmt.Sprintf("%s.static_configs[%d].targets[%d]", key, j, k),
						"%q is there twice; allowed: each exporter once", target)
				}
				targets[target] = true
			}
		}
	}
	return nil
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

// Scheme is http or https.
type Scheme string

// Allowed says which schemes there are.
func (s *Scheme) Allowed() string { return "http, https" }

// UnmarshalText parses a scheme.
func (s *Scheme) UnmarshalText(text []byte) error {
	if *s = Scheme(text); *s != "http" && *s != "https" {
		return fmt.Errorf("%q isn't a scheme; allowed: %s", text, s.Allowed())
	}
	return nil
}

// Path is the path of a URL.
type Path string

// Allowed says what a path looks like.
func (p *Path) Allowed() string { return "a URL's path such as /v1/epochs" }

// UnmarshalText parses a path.
func (p *Path) UnmarshalText(text []byte) error {
	if *p = Path(text); !strings.HasPrefix(string(text), "/") || strings.ContainsAny(string(text), "?# ") {
		return fmt.Errorf("%q isn't a path; allowed: %s", text, p.Allowed())
	}
	return nil
}

// Address is the host and port of a target, and the exporter's name.
type Address string

// Allowed says what a target looks like.
func (a *Address) Allowed() string { return "host:port such as 10.0.0.1:10017" }

// UnmarshalText parses host:port.
func (a *Address) UnmarshalText(text []byte) error {
	host, port, err := net.SplitHostPort(string(text))
	number, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || number == 0 || host == "" || strings.ContainsAny(host, "/@ ?#") {
		return fmt.Errorf("%q isn't a target; allowed: %s", text, a.Allowed())
	}
	*a = Address(text)
	return nil
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
