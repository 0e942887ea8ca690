package config

import (
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/networks"
	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

// Each file has one mistake, and its error is exactly this line.
func TestInvalidFiles(t *testing.T) {
	errors := map[string]string{
		"federation-delay":        `federation.delay: "20s" is out of range; allowed: 2s to 9s`,
		"cardinality-window":      `cardinality.windows[1]: "1h" is out of range; allowed: 1s to 15m`,
		"hhh-window":              `hhh.window: "1h" is out of range; allowed: 1s to 15m`,
		"ipv4-step":               `hhh.ipv4_step: "3" isn't a step of prefix lengths; allowed: 1, 2, 4, 8, 16`,
		"ipv6-step":               `hhh.ipv6_step: "64" isn't a step of prefix lengths; allowed: 4, 8, 16, 32`,
		"job-name":                `scrape_configs[0].job_name: "" isn't a job's name; allowed: any text`,
		"job-twice":               `scrape_configs[1].job_name: "tma" is there twice; allowed: a name of its own for each job`,
		"limit":                   `limits.flows_per_bucket: "0" isn't a number of entries; allowed: a number from 64 to 67108864`,
		"memory":                  `limits.memory: "1MiB" is out of range; allowed: 128MiB to 1TiB`,
		"path":                    `scrape_configs[0].epochs_path: "v1/epochs" isn't a path; allowed: a URL's path such as /v1/epochs`,
		"phi-word":                `hhh.phi: "heavy" isn't a share of the traffic; allowed: a number from 0.0001 to 1`,
		"phi":                     `hhh.phi: "1.5" isn't a share of the traffic; allowed: a number from 0.0001 to 1`,
		"relabel-action":          `scrape_configs[0].relabel_configs[0].action: "rename" isn't an action; allowed: dropequal, drop, hashmod, keepequal, keep, labeldrop, labelkeep, labelmap, lowercase, replace, uppercase`,
		"relabel-regex":           `scrape_configs[0].relabel_configs[0].regex: "(" isn't a regular expression (missing closing ): ` + "`(`" + `); allowed: a regular expression (RE2) such as eth.*|bond0`,
		"relabel-rule":            `scrape_configs[0].relabel_configs[0]: relabel configuration for hashmod requires non-zero modulus; allowed: a relabel_config as Prometheus documents it`,
		"retention":               `retention: "2d" is out of range; allowed: 15s to 1h`,
		"scheme":                  `scrape_configs[0].scheme: "ftp" isn't a scheme; allowed: http, https`,
		"target-port":             `scrape_configs[0].static_configs[0].targets[0]: "10.0.0.2:99999" isn't a target; allowed: host:port such as 10.0.0.1:10017`,
		"target":                  `scrape_configs[0].static_configs[0].targets[1]: "10.0.0.2" isn't a target; allowed: host:port such as 10.0.0.1:10017`,
		"timeout-range":           `scrape_configs[0].scrape_timeout: "11m" is out of range; allowed: 1s to 10m`,
		"timeout":                 `scrape_configs[0].scrape_timeout: "5 seconds" isn't a duration; allowed: a duration such as 500ms, 15s or 1h`,
		"auth-twice":              `scrape_configs[0]: at most one of basic_auth, oauth2 & authorization must be configured; allowed: an HTTP client's settings as Prometheus documents them`,
		"ca-file":                 `scrape_configs[0]: unable to read CA cert: unable to read file testdata/none.pem: open testdata/none.pem: no such file or directory; allowed: readable files of certificates and keys`,
		"file-sd-name":            `scrape_configs[0].file_sd_configs[0]: path name "targets.txt" is not valid for file discovery`,
		"global-key":              `global.scrape_intervals: unknown key; allowed: scrape_timeout, target_limit`,
		"sd-key":                  `scrape_configs[0].http_sd_configs[0].uri: unknown key; allowed: authorization, basic_auth, bearer_token, bearer_token_file, enable_http2, follow_redirects, http_headers, no_proxy, oauth2, proxy_connect_header, proxy_from_environment, proxy_url, refresh_interval, tls_config, url`,
		"tls-key":                 `scrape_configs[0].tls_config.certfile: unknown key; allowed: ca, ca_file, ca_ref, cert, cert_file, cert_ref, insecure_skip_verify, key, key_file, key_ref, max_version, min_version, server_name`,
		"unknown-key":             `scrape_configs[0].scrape_intervall: unknown key; allowed: authorization, basic_auth, bearer_token, bearer_token_file, dns_sd_configs, enable_http2, epochs_path, file_sd_configs, follow_redirects, http_headers, http_sd_configs, job_name, kubernetes_sd_configs, metrics_path, no_proxy, oauth2, params, proxy_connect_header, proxy_from_environment, proxy_url, relabel_configs, scheme, scrape_timeout, static_configs, target_limit, tls_config`,
		"yaml":                    `line 1: did not find expected node content; allowed: YAML`,
		"networks-host-bits":      `networks[0].prefix: "10.1.2.3/8" has bits beyond its length; allowed: 10.0.0.0/8`,
		"networks-many":           `networks: 1001 networks; allowed: at most 1000`,
		"networks-name-missing":   `networks[1].name: missing; allowed: a name such as corp or zone-1, of at most 63 letters, digits, dots, hyphens and underscores`,
		"networks-name-odd":       `networks[0].name: "head office" isn't a name; allowed: a name such as corp or zone-1, of at most 63 letters, digits, dots, hyphens and underscores`,
		"networks-name-reserved":  `networks[0].name: "unknown" is reserved; allowed: a name other than other, unknown, unnamed`,
		"networks-names":          `networks: 65 names; allowed: at most 64, which networks may share`,
		"networks-not-a-list":     `networks: a map; allowed: a list`,
		"networks-prefix":         `networks[0].prefix: "corp" isn't a network; allowed: a network such as 10.0.0.0/8 or 2001:db8::/32`,
		"networks-prefix-missing": `networks[0].prefix: missing; allowed: a network such as 10.0.0.0/8 or 2001:db8::/32`,
		"networks-twice":          `networks[1].prefix: 10.0.0.0/8 is there twice; allowed: each network once`,
		"networks-unknown-key":    `networks[0].cidr: unknown key; allowed: name, prefix`,
	}
	files, err := filepath.Glob("testdata/invalid-*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "invalid-"), ".yml")
		want, known := errors[name]
		delete(errors, name)
		_, err := Load(file)
		switch {
		case !known:
			t.Errorf("no error is expected of %s, which gives:\n%v", file, err)
		case err == nil:
			t.Errorf("%s is taken", file)
		case err.Error() != file+": "+want:
			t.Errorf("%s:\n got %s\nwant %s: %s", name, err, file, want)
		}
	}
	for name := range errors {
		t.Errorf("there is no file invalid-%s.yml", name)
	}
}

func TestValidFile(t *testing.T) {
	got, err := Load("testdata/valid.yml")
	if err != nil {
		t.Fatal(err)
	}
	zoneA, zoneB := job("zone-a"), job("zone-b")
	zoneA.StaticConfigs = []StaticConfig{{[]string{"172.25.10.1:10017", "[2001:db8::1]:10017"}, map[string]string{"zone": "a"}}}
	zoneB.Scheme, zoneB.EpochsPath, zoneB.ScrapeTimeout = "https", "/tma/epochs", seconds(10)
	zoneB.StaticConfigs = []StaticConfig{{Targets: []string{"host-c.example:10017"}}}
	want := Configuration{
		Global:        Global{ScrapeTimeout: seconds(4)},
		ScrapeConfigs: []ScrapeConfig{zoneA, zoneB},
		HHH:           HHH{0.05, seconds(60), 4, 8},
		Cardinality:   Cardinality{[]yamlconf.Duration{seconds(10), seconds(120)}},
		Retention:     seconds(300),
		Limits:        Limits{512 << 20, 1000, 500, 1000},
		Networks: []networks.Network{
			{Prefix: yamlconf.Prefix{Prefix: netip.MustParsePrefix("10.0.0.0/8")}, Name: "corp"},
			{Prefix: yamlconf.Prefix{Prefix: netip.MustParsePrefix("10.1.0.0/16")}, Name: "lab"},
			{Prefix: yamlconf.Prefix{Prefix: netip.MustParsePrefix("2001:db8::/32")}, Name: "corp"},
		},
		Federation: Federation{"europe", seconds(4), 2000},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// job is one without any key but its name.
func job(name string) (c ScrapeConfig) {
	c.SetDefaults()
	c.JobName, c.ScrapeTimeout = name, seconds(4)
	return c
}

// What Prometheus' users have loads as it is: each way of finding targets, what a
// client needs to get at them, and keys that say nothing to us, which are listed.
func TestPrometheusFile(t *testing.T) {
	c, err := Load("testdata/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(c.ScrapeConfigs); n != 5 {
		t.Fatalf("%d jobs", n)
	}
	static, node := c.ScrapeConfigs[0], c.ScrapeConfigs[1]
	if static.ScrapeTimeout != seconds(12) || static.MetricsPath != "/metrics" || static.EpochsPath != "/v1/epochs" || static.TargetLimit != 50 {
		t.Errorf("the first job is %+v", static)
	}
	if node.ScrapeTimeout != seconds(5) || node.Params.Get("module") != "tma" || node.TargetLimit != 35 || node.HTTPClient.FollowRedirects {
		t.Errorf("the second job is %+v", node)
	}
	if auth := node.HTTPClient.BasicAuth; auth == nil || auth.PasswordFile != "testdata/password" || node.HTTPClient.TLSConfig.ServerName != "exporter.example" {
		t.Errorf("the client is %+v", node.HTTPClient)
	}
	var found []string
	for i := range c.ScrapeConfigs {
		for _, sd := range c.ScrapeConfigs[i].Discovery() {
			found = append(found, sd.Name())
		}
	}
	if want := []string{"file", "http", "dns", "kubernetes"}; !reflect.DeepEqual(found, want) {
		t.Errorf("discovery by %v, want %v", found, want)
	}
	if files := c.ScrapeConfigs[1].FileSDConfigs[0].Files; files[0] != "testdata/targets/*.yml" {
		t.Errorf("files are %v", files)
	}
	if rules := c.ScrapeConfigs[4].RelabelRules(); len(rules) != 4 || rules[3].Action != "hashmod" || rules[3].Modulus != 4 {
		t.Errorf("rules are %+v", rules)
	}
	want := []string{
		"rule_files", "alerting", "remote_write", "storage", "global.scrape_interval", "global.evaluation_interval",
		"global.external_labels", "scrape_configs[0].honor_labels", "scrape_configs[1].scrape_interval",
		"scrape_configs[1].metric_relabel_configs", "scrape_configs[1].sample_limit", "scrape_configs[3].honor_labels",
	}
	if got := c.Ignored(); !reflect.DeepEqual(got, want) {
		t.Errorf("ignored\n%q\nwant\n%q", got, want)
	}
}

// Windows that nobody asked for are no mistake where the retention is shorter.
func TestDefaultWindowsFollowRetention(t *testing.T) {
	c := Default()
	c.Retention = seconds(60)
	c.setWindows()
	if want := []yamlconf.Duration{seconds(10), seconds(60)}; !reflect.DeepEqual(c.Cardinality.Windows, want) {
		t.Errorf("windows are %v, want %v", c.Cardinality.Windows, want)
	}
	if err := c.check(); err != nil {
		t.Error(err)
	}
}

func TestMissingFile(t *testing.T) {
	_, err := Load("testdata/none.yml")
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "testdata/none.yml: ") {
		t.Errorf("got %v", err)
	}
}
