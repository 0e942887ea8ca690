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

// Configuration is the whole file.
type Configuration struct {
	ScrapeConfigs []ScrapeConfig    `yaml:"scrape_configs"`
	HHH           HHH               `yaml:"hhh"`
	Cardinality   Cardinality       `yaml:"cardinality"`
	Retention     yamlconf.Duration `yaml:"retention"`
	Limits        Limits            `yaml:"limits"`
}

// ScrapeConfig is a group of exporters that are scraped alike.
type ScrapeConfig struct {
	JobName     string `yaml:"job_name"`
	Scheme      Scheme `yaml:"scheme"`
	MetricsPath Path   `yaml:"metrics_path"`
	// ScrapeTimeout is after how long without an answer an exporter is down. It is
	// asked to answer in half of that, even if nothing happened.
	ScrapeTimeout  yamlconf.Duration `yaml:"scrape_timeout"`
	StaticConfigs  []StaticConfig    `yaml:"static_configs"`
	RelabelConfigs []RelabelConfig   `yaml:"relabel_configs"`
}

// StaticConfig is a list of targets with common labels.
type StaticConfig struct {
	Targets []Address         `yaml:"targets"`
	Labels  map[string]string `yaml:"labels"`
}

// HHH says what is heavy, and along which prefixes.
type HHH struct {
	Phi      Share             `yaml:"phi"`    // default of the API, and for metrics
	Window   yamlconf.Duration `yaml:"window"` // of the metrics
	IPv4Step IPv4Step          `yaml:"ipv4_step"`
	IPv6Step IPv6Step          `yaml:"ipv6_step"`
}

// Cardinality says over which windows the metrics count distinct things.
type Cardinality struct {
	// By default 10s, 1m, 5m and 15m, as far as the retention reaches.
	Windows []yamlconf.Duration `yaml:"windows"`
}

// Limits bound the memory of the windows.
type Limits struct {
	PrefixesPerBucket Size `yaml:"prefixes_per_bucket"` // and dimension
	FlowsPerBucket    Size `yaml:"flows_per_bucket"`
	OpenRecords       Size `yaml:"open_records"`
	TransitFlows      Size `yaml:"transit_flows"`
}

// Default returns what holds for keys that the file doesn't have.
func Default() Configuration {
	return Configuration{
		HHH:       HHH{Phi: 0.01, Window: seconds(10), IPv4Step: 8, IPv6Step: 16},
		Retention: seconds(900),
		Limits:    Limits{PrefixesPerBucket: 16384, FlowsPerBucket: 8192, OpenRecords: 4 << 20, TransitFlows: 1 << 18},
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
var defaultWindows = []yamlconf.Duration{seconds(10), seconds(60), seconds(300), seconds(900)}

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

// UnmarshalText parses a scheme.
func (s *Scheme) UnmarshalText(text []byte) error {
	if *s = Scheme(text); *s != "http" && *s != "https" {
		return fmt.Errorf("%q isn't a scheme; allowed: http, https", text)
	}
	return nil
}

// Path is the path of a URL.
type Path string

// UnmarshalText parses a path.
func (p *Path) UnmarshalText(text []byte) error {
	if *p = Path(text); !strings.HasPrefix(string(text), "/") || strings.ContainsAny(string(text), "?# ") {
		return fmt.Errorf("%q isn't a path; allowed: a URL's path such as /v1/epochs", text)
	}
	return nil
}

// Address is the host and port of a target, and the exporter's name.
type Address string

// UnmarshalText parses host:port.
func (a *Address) UnmarshalText(text []byte) error {
	host, port, err := net.SplitHostPort(string(text))
	number, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || number == 0 || host == "" || strings.ContainsAny(host, "/@ ?#") {
		return fmt.Errorf("%q isn't a target; allowed: host:port such as 10.0.0.1:10017", text)
	}
	*a = Address(text)
	return nil
}

// Share is a part of a whole.
type Share float64

// UnmarshalText parses a share.
func (s *Share) UnmarshalText(text []byte) error {
	share, err := strconv.ParseFloat(string(text), 64)
	if err != nil || !(share >= 0.0001 && share <= 1) {
		return fmt.Errorf("%q isn't a share of the traffic; allowed: a number from 0.0001 to 1", text)
	}
	*s = Share(share)
	return nil
}

// IPv4Step is the distance of levels in the IPv4 hierarchy, in bits.
type IPv4Step int

// UnmarshalText parses a step.
func (s *IPv4Step) UnmarshalText(text []byte) error { return step((*int)(s), text, "1, 2, 4, 8, 16") }

// IPv6Step is the distance of levels in the IPv6 hierarchy, in bits.
type IPv6Step int

// UnmarshalText parses a step.
func (s *IPv6Step) UnmarshalText(text []byte) error { return step((*int)(s), text, "4, 8, 16, 32") }

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

// UnmarshalText parses a number of entries.
func (s *Size) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 32)
	if err != nil || n < 64 || n > 1<<26 {
		return fmt.Errorf("%q isn't a number of entries; allowed: a number from 64 to %d", text, 1<<26)
	}
	*s = Size(n)
	return nil
}
