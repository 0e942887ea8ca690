package config

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

// Each file has one mistake, and its error is exactly this line.
func TestInvalidFiles(t *testing.T) {
	errors := map[string]string{
		"cardinality-window": `cardinality.windows[1]: "1h" is out of range; allowed: 1s to 15m`,
		"hhh-window":         `hhh.window: "1h" is out of range; allowed: 1s to 15m`,
		"ipv4-step":          `hhh.ipv4_step: "3" isn't a step of prefix lengths; allowed: 1, 2, 4, 8, 16`,
		"ipv6-step":          `hhh.ipv6_step: "64" isn't a step of prefix lengths; allowed: 4, 8, 16, 32`,
		"job-name":           `scrape_configs[0].job_name: "" isn't a job's name; allowed: any text`,
		"job-twice":          `scrape_configs[1].job_name: "tma" is there twice; allowed: a name of its own for each job`,
		"limit":              `limits.flows_per_bucket: "0" isn't a number of entries; allowed: a number from 64 to 67108864`,
		"memory":             `limits.memory: "1MiB" is out of range; allowed: 128MiB to 1TiB`,
		"path":               `scrape_configs[0].metrics_path: "v1/epochs" isn't a path; allowed: a URL's path such as /v1/epochs`,
		"phi-word":           `hhh.phi: "heavy" isn't a share of the traffic; allowed: a number from 0.0001 to 1`,
		"phi":                `hhh.phi: "1.5" isn't a share of the traffic; allowed: a number from 0.0001 to 1`,
		"relabel-action":     `scrape_configs[0].relabel_configs[0].action: "rename" isn't an action; allowed: dropequal, drop, hashmod, keepequal, keep, labeldrop, labelkeep, labelmap, lowercase, replace, uppercase`,
		"relabel-regex":      `scrape_configs[0].relabel_configs[0].regex: "(" isn't a regular expression (missing closing ): ` + "`(`" + `); allowed: a regular expression (RE2) such as eth.*|bond0`,
		"relabel-rule":       `scrape_configs[0].relabel_configs[0]: relabel configuration for hashmod requires non-zero modulus; allowed: a relabel_config as Prometheus documents it`,
		"retention":          `retention: "2d" is out of range; allowed: 15s to 1h`,
		"scheme":             `scrape_configs[0].scheme: "ftp" isn't a scheme; allowed: http, https`,
		"target-port":        `scrape_configs[0].static_configs[0].targets[0]: "10.0.0.2:99999" isn't a target; allowed: host:port such as 10.0.0.1:10017`,
		"target-twice":       `scrape_configs[1].static_configs[0].targets[1]: "10.0.0.1:10017" is there twice; allowed: each exporter once`,
		"target":             `scrape_configs[0].static_configs[0].targets[1]: "10.0.0.2" isn't a target; allowed: host:port such as 10.0.0.1:10017`,
		"timeout-range":      `scrape_configs[0].scrape_timeout: "5m" is out of range; allowed: 1s to 1m`,
		"timeout":            `scrape_configs[0].scrape_timeout: "5 seconds" isn't a duration; allowed: a duration such as 500ms, 15s or 1h`,
		"unknown-key":        `scrape_configs[0].scrape_interval: unknown key; allowed: job_name, metrics_path, relabel_configs, scheme, scrape_timeout, static_configs`,
		"yaml":               `line 1: did not find expected node content; allowed: YAML`,
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
	want := Configuration{
		ScrapeConfigs: []ScrapeConfig{
			{"zone-a", "http", "/v1/epochs", seconds(4), []StaticConfig{
				{[]Address{"172.25.10.1:10017", "[2001:db8::1]:10017"}, map[string]string{"zone": "a"}},
			}, nil},
			{"zone-b", "https", "/tma/epochs", seconds(10), []StaticConfig{{Targets: []Address{"host-c.example:10017"}}}, nil},
		},
		HHH:         HHH{0.05, seconds(60), 4, 8},
		Cardinality: Cardinality{[]yamlconf.Duration{seconds(10), seconds(120)}},
		Retention:   seconds(300),
		Limits:      Limits{512 << 20, 1000, 500, 1000},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
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
