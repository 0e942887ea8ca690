package config

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/dns"
	"github.com/prometheus/prometheus/discovery/file"
	"github.com/prometheus/prometheus/discovery/http"
	"github.com/prometheus/prometheus/discovery/kubernetes"

	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

// Global is what holds for all jobs.
type Global struct {
	ScrapeTimeout yamlconf.Duration `yaml:"scrape_timeout" help:"After how long without an answer an exporter is down, for jobs that don't say."`
	TargetLimit   uint              `yaml:"target_limit" help:"Limit of targets for jobs that don't say; 0 for none."`

	ignored ignored
}

// ScrapeConfig is a job: exporters that are found and scraped alike. Its keys are
// Prometheus', but for EpochsPath.
type ScrapeConfig struct {
	JobName     string     `yaml:"job_name" help:"Label job of the targets, for relabelling."`
	Scheme      Scheme     `yaml:"scheme" help:"How the exporters are asked; label __scheme__."`
	EpochsPath  Path       `yaml:"epochs_path" help:"Where an exporter has its epochs; label __epochs_path__."`
	MetricsPath string     `yaml:"metrics_path" help:"Where Prometheus finds an exporter's metrics: nothing is asked for there, it is the label __metrics_path__."`
	Params      url.Values `yaml:"params" help:"Labels __param_<name> with the first value of each name. They aren't sent: exporters take no parameters of others."`
	// ScrapeTimeout is after how long without an answer an exporter is down. It is
	// asked to answer in half of that, even if nothing happened.
	ScrapeTimeout       yamlconf.Duration      `yaml:"scrape_timeout" help:"After how long without an answer an exporter is down; by default global.scrape_timeout."`
	TargetLimit         uint                   `yaml:"target_limit" help:"If there are more targets after relabelling, none of the job is scraped; by default global.target_limit."`
	StaticConfigs       []StaticConfig         `yaml:"static_configs"`
	FileSDConfigs       []*file.SDConfig       `yaml:"file_sd_configs" help:"Targets from files, which are watched."`
	HTTPSDConfigs       []*http.SDConfig       `yaml:"http_sd_configs" help:"Targets from a URL that is asked again and again."`
	DNSSDConfigs        []*dns.SDConfig        `yaml:"dns_sd_configs" help:"Targets from DNS records."`
	KubernetesSDConfigs []*kubernetes.SDConfig `yaml:"kubernetes_sd_configs" help:"Targets from Kubernetes' API."`
	RelabelConfigs      []RelabelConfig        `yaml:"relabel_configs"`
	// HTTPClient has the keys basic_auth, authorization, oauth2, tls_config,
	// follow_redirects, enable_http2, proxy_url and more.
	HTTPClient promconfig.HTTPClientConfig `yaml:",inline"`

	ignored ignored
}

// StaticConfig is a list of targets with common labels.
type StaticConfig struct {
	Targets []string          `yaml:"targets" help:"The exporters."`
	Labels  map[string]string `yaml:"labels" help:"Labels of these targets, for relabelling."`
}

// SetDefaults makes ScrapeConfig a yamlconf.Defaulter. Unlike Prometheus we don't
// follow redirects: an exporter could send us, with our credentials, to any address
// that we reach and it doesn't.
func (c *ScrapeConfig) SetDefaults() {
	*c = ScrapeConfig{Scheme: "http", EpochsPath: "/v1/epochs", MetricsPath: "/metrics", HTTPClient: promconfig.DefaultHTTPClientConfig}
	c.HTTPClient.FollowRedirects = false
}

// Discovery returns how the job finds targets beside the static ones.
func (c *ScrapeConfig) Discovery() (configs discovery.Configs) {
	for _, sd := range c.FileSDConfigs {
		configs = append(configs, sd)
	}
	for _, sd := range c.HTTPSDConfigs {
		configs = append(configs, sd)
	}
	for _, sd := range c.DNSSDConfigs {
		configs = append(configs, sd)
	}
	for _, sd := range c.KubernetesSDConfigs {
		configs = append(configs, sd)
	}
	return configs
}

// setJobs fills in what jobs inherit. Files are found beside the configuration's.
func (c *Configuration) setJobs(directory string) {
	for i := range c.ScrapeConfigs {
		job := &c.ScrapeConfigs[i]
		if job.ScrapeTimeout == 0 {
			job.ScrapeTimeout = c.Global.ScrapeTimeout
		}
		if job.TargetLimit == 0 {
			job.TargetLimit = c.Global.TargetLimit
		}
		job.HTTPClient.SetDirectory(directory)
		found := job.Discovery()
		found.SetDirectory(directory)
	}
}

func (c *Configuration) checkJobs() *yamlconf.Error {
	if err := between("global.scrape_timeout", c.Global.ScrapeTimeout, minTimeout, maxTimeout); err != nil {
		return err
	}
	jobs := make(map[string]bool)
	for i := range c.ScrapeConfigs {
		job := &c.ScrapeConfigs[i]
		key := fmt.Sprintf("scrape_configs[%d]", i)
		switch {
		case job.JobName == "":
			return wrong(key+".job_name", `"" isn't a job's name; allowed: any text`)
		case jobs[job.JobName]:
			return wrong(key+".job_name", "%q is there twice; allowed: a name of its own for each job", job.JobName)
		}
		jobs[job.JobName] = true
		if err := job.check(key); err != nil {
			return err
		}
	}
	return nil
}

// check looks at the job under a key.
func (c *ScrapeConfig) check(key string) *yamlconf.Error {
	if err := between(key+".scrape_timeout", c.ScrapeTimeout, minTimeout, maxTimeout); err != nil {
		return err
	}
	if err := c.checkRelabelling(key); err != nil {
		return err
	}
	if err := c.HTTPClient.Validate(); err != nil {
		return wrong(key, "%w; allowed: an HTTP client's settings as Prometheus documents them", err)
	}
	if _, err := promconfig.NewClientFromConfig(c.HTTPClient, c.JobName); err != nil {
		return wrong(key, "%w; allowed: readable files of certificates and keys", err)
	}
	return c.checkTargets(key)
}

// checkTargets looks at targets that stay as they are written.
func (c *ScrapeConfig) checkTargets(key string) *yamlconf.Error {
	if len(c.RelabelConfigs) > 0 {
		return nil
	}
	for i, static := range c.StaticConfigs {
		for j, target := range static.Targets {
			if err := CheckAddress(target); err != nil {
				return &yamlconf.Error{Key: fmt.Sprintf("%s.static_configs[%d].targets[%d]", key, i, j), Err: err}
			}
		}
	}
	return nil
}

// allowedAddress says what a target looks like.
const allowedAddress = "host:port such as 10.0.0.1:10017"

// CheckAddress says what is wrong with a target that is to be asked.
func CheckAddress(text string) error {
	host, port, err := net.SplitHostPort(text)
	number, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || number == 0 || host == "" || strings.ContainsAny(host, "/@ ?#") {
		return fmt.Errorf("%.64q isn't a target; allowed: %s", text, allowedAddress)
	}
	return nil
}

// Scheme is http or https.
type Scheme string

// Allowed says which schemes there are.
func (s *Scheme) Allowed() string { return "http, https" }

// UnmarshalText parses a scheme.
func (s *Scheme) UnmarshalText(text []byte) error {
	if *s = Scheme(text); *s != "http" && *s != "https" {
		return fmt.Errorf("%.64q isn't a scheme; allowed: %s", text, s.Allowed())
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
		return fmt.Errorf("%.64q isn't a path; allowed: %s", text, p.Allowed())
	}
	return nil
}
