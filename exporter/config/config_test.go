package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/exporter/config"
	"github.com/traffic-monitor-agent/tma/internal/siphash"
	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

// invalid is what each file of testdata must be refused with, behind its name.
var invalid = map[string]string{
	"invalid-unknown-section":         "captures: unknown key; allowed: capture, epochs, networks, sketch, topk",
	"invalid-unknown-key":             "capture.epcoh: unknown key; allowed: epoch, exclude, fleet, include, layer3, memory, pin_path",
	"invalid-duplicate-key":           "topk.k: the key is there twice; allowed: once",
	"invalid-include":                 "capture.include: \"eth[\" isn't a regular expression (missing closing ]: `[`); allowed: a regular expression (RE2) such as eth.*|bond0",
	"invalid-exclude":                 "capture.exclude: a list; allowed: a regular expression (RE2) such as eth.*|bond0",
	"invalid-epoch":                   `capture.epoch: "500" isn't a duration; allowed: a duration such as 500ms, 15s or 1h`,
	"invalid-epoch-short":             "capture.epoch: 50ms is out of range; allowed: 100ms to 10s",
	"invalid-epoch-long":              "capture.epoch: 1m is out of range; allowed: 100ms to 10s",
	"invalid-memory":                  `capture.memory: "64 MB" isn't a size; allowed: a size such as 512KiB, 64MiB or 1GiB`,
	"invalid-memory-small":            "capture.memory: 4MiB is out of range; allowed: 8MiB to 64GiB",
	"invalid-fleet":                   `capture.fleet[1]: "10.0.0.0/33" isn't a network; allowed: a network such as 10.0.0.0/8 or 2001:db8::/32`,
	"invalid-pin-path":                `capture.pin_path: "tma" can't be in a BPF file system; allowed: an absolute path without dots in the last name, such as /sys/fs/bpf/tma`,
	"invalid-topk-k":                  "topk.k: 1001 is out of range; allowed: 1 to 1000",
	"invalid-topk-k-word":             `topk.k: "twenty" isn't a whole number; allowed: a whole number such as 20`,
	"invalid-topk-window":             "topk.window: 1h is out of range; allowed: 1s to 10m",
	"invalid-topk-labels":             `topk.labels: "names" isn't what labels can be; allowed: addresses, networks`,
	"invalid-networks-twice":          `networks[1].prefix: 10.0.0.0/8 is there twice; allowed: each network once`,
	"invalid-networks-name-empty":     `networks[0].name: "" isn't a name; allowed: a name such as corp or zone-1, of at most 63 letters, digits, dots, hyphens and underscores`,
	"invalid-networks-name-missing":   `networks[0].name: missing; allowed: a name such as corp or zone-1, of at most 63 letters, digits, dots, hyphens and underscores`,
	"invalid-networks-name-odd":       `networks[0].name: "head office" isn't a name; allowed: a name such as corp or zone-1, of at most 63 letters, digits, dots, hyphens and underscores`,
	"invalid-networks-name-reserved":  `networks[0].name: "other" is reserved; allowed: a name other than other, unknown, unnamed`,
	"invalid-networks-prefix":         `networks[0].prefix: "corp" isn't a network; allowed: a network such as 10.0.0.0/8 or 2001:db8::/32`,
	"invalid-networks-prefix-missing": `networks[0].prefix: missing; allowed: a network such as 10.0.0.0/8 or 2001:db8::/32`,
	"invalid-networks-host-bits":      `networks[0].prefix: "10.1.2.3/8" has bits beyond its length; allowed: 10.0.0.0/8`,
	"invalid-networks-unknown-key":    `networks[0].cidr: unknown key; allowed: name, prefix`,
	"invalid-networks-not-a-list":     `networks: "10.0.0.0/8=corp"; allowed: a list`,
	"invalid-networks-many":           `networks: 1001 networks; allowed: at most 1000`,
	"invalid-epochs-host":             "epochs.host: not a name; allowed: at most 253 printable ASCII characters without a space",
	"invalid-epochs-flows":            "epochs.flows: 0 is out of range; allowed: 1 to 100000",
	"invalid-epochs-retention":        "epochs.retention: 1s is out of range; allowed: 10s to 1h",
	"invalid-epochs-memory":           "epochs.memory: 1KiB is out of range; allowed: 1MiB to 4GiB",
	"invalid-key-file-missing":        "sketch.key_file: testdata/missing.key: no such file or directory; allowed: a readable file with 32 hexadecimal digits",
	"invalid-key-file-short":          "sketch.key_file: testdata/short.key doesn't hold a key; allowed: 32 hexadecimal digits",
	"invalid-key-file-digits":         "sketch.key_file: testdata/digits.key doesn't hold hexadecimal digits alone; allowed: 32 of them",
	"invalid-not-a-map":               `"eth0"; allowed: a map with the keys capture, epochs, networks, sketch, topk`,
	"invalid-syntax":                  "line 1: did not find expected ',' or '}'; allowed: YAML",
	"invalid-two-documents":           "more than one document; allowed: one",
}

func TestInvalidFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/invalid-*.yml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(invalid) {
		t.Errorf("%d files, %d expected errors", len(files), len(invalid))
	}
	for name, want := range invalid {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", name+".yml")
			_, err := config.Parse([]string{"--config.file", file})
			wantError(t, err, file+": "+want)
		})
	}
}

func TestInvalidFlags(t *testing.T) {
	for _, test := range []struct{ flag, want string }{
		{"--capture.include=eth[", "--capture.include: \"eth[\" isn't a regular expression (missing closing ]: `[`); allowed: a regular expression (RE2) such as eth.*|bond0"},
		{"--capture.epoch=500", `--capture.epoch: "500" isn't a duration; allowed: a duration such as 500ms, 15s or 1h`},
		{"--capture.epoch=50ms", "--capture.epoch: 50ms is out of range; allowed: 100ms to 10s"},
		{"--capture.memory=1MiB", "--capture.memory: 1MiB is out of range; allowed: 8MiB to 64GiB"},
		{"--capture.fleet=10.0.0.1", `--capture.fleet: "10.0.0.1" isn't a network; allowed: a network such as 10.0.0.0/8 or 2001:db8::/32`},
		{"--topk.k=twenty", `--topk.k: "twenty" isn't a whole number; allowed: a whole number such as 20`},
		{"--topk.k=0", "--topk.k: 0 is out of range; allowed: 1 to 1000"},
		{"--topk.labels=names", `--topk.labels: "names" isn't what labels can be; allowed: addresses, networks`},
		{"--topk.labels=networks", "topk.labels: no network has a name; allowed: addresses, or names under networks"},
		{"--networks=10.0.0.0/8", `--networks: "10.0.0.0/8" has no name; allowed: a network and its name such as 10.0.0.0/8=corp`},
		{"--networks=10.0.0.0/8=other", `--networks: "other" is reserved; allowed: a name other than other, unknown, unnamed`},
		{"--networks=10.0.0.1/8=corp", `--networks: "10.0.0.1/8" has bits beyond its length; allowed: 10.0.0.0/8`},
		{"--networks=10.0.0.0/8=corp --networks=10.0.0.0/8=lab", "--networks: 10.0.0.0/8 is there twice; allowed: each network once"},
		{"--sketch.key-file=testdata/missing.key", "--sketch.key-file: testdata/missing.key: no such file or directory; allowed: a readable file with 32 hexadecimal digits"},
		{"--config.file=testdata/missing.yml", "testdata/missing.yml: no such file or directory; allowed: a readable YAML file"},
		{"--web.telemetry-path=/v1/metrics", `--web.telemetry-path: "/v1/metrics" isn't free; allowed: a path such as /metrics, but not the root or one below /v1, /- or /debug/pprof`},
		{"--web.telemetry-path=/metrics/../", `--web.telemetry-path: "/metrics/../" isn't free; allowed: a path such as /metrics, but not the root or one below /v1, /- or /debug/pprof`},
		{"--web.config.file=testdata/missing.yml", "--web.config.file: open testdata/missing.yml: no such file or directory"},
		{"--capture.epok=1s", "unknown long flag '--capture.epok'"},
		{"--capture.pin-path=/sys/fs/bpf/tma.1", `--capture.pin-path: "/sys/fs/bpf/tma.1" can't be in a BPF file system; allowed: an absolute path without dots in the last name, such as /sys/fs/bpf/tma`},
		{"detach", "--capture.pin-path: missing; allowed: the path of the exporter that is to be detached"},
		{"eth0", "unexpected eth0"},
	} {
		t.Run(test.flag, func(t *testing.T) {
			_, err := config.Parse(strings.Fields(test.flag))
			wantError(t, err, test.want)
		})
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", want)
	}
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}

func TestDefaultsAreAllowed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "empty.yml")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	if err := c.Load(file); err != nil {
		t.Error(err)
	}
}

// Each key of the file sets what the flag of the same name sets.
func TestFileAndFlagsSayTheSame(t *testing.T) {
	fromFile := parse(t, "--config.file=testdata/complete.yml")
	fromFlags := parse(t, "--capture.include=eth.*", "--capture.exclude=eth9", "--capture.layer3=wg.*", "--capture.epoch=1s",
		"--capture.memory=32MiB", "--capture.fleet=10.0.0.0/8", "--capture.fleet=2001:db8::/32",
		"--capture.pin-path=/sys/fs/bpf/tma",
		"--topk.k=10", "--topk.window=30s", "--topk.labels=networks", "--networks=10.0.0.0/8=corp", "--networks=2001:db8::/32=lab", "--epochs.host=host-a", "--epochs.flows=500",
		"--epochs.retention=5m", "--epochs.memory=8MiB", "--sketch.key-file=testdata/good.key")
	file, flags, defaults := text(fromFile), text(fromFlags), text(parse(t))
	if file != flags {
		t.Errorf("file:  %s\nflags: %s", file, flags)
	}
	for i, line := range strings.Split(file, "\n") {
		if line != "" && line == strings.Split(defaults, "\n")[i] {
			t.Errorf("%s is the default: this test proves nothing", line)
		}
	}
}

func TestPrecedence(t *testing.T) {
	got := parse(t, "--capture.epoch=2s", "--config.file=testdata/complete.yml", "--capture.fleet=192.0.2.0/24", "--topk.k=20").Config
	if got.Capture.Epoch != yamlconf.Duration(2*time.Second) {
		t.Errorf("epoch %s: the flag goes before the file", got.Capture.Epoch)
	}
	if len(got.Capture.Fleet) != 1 || got.Capture.Fleet[0].String() != "192.0.2.0/24" {
		t.Errorf("fleet %v: the flag's list replaces the file's", got.Capture.Fleet)
	}
	if got.TopK.K != 20 {
		t.Errorf("k %d: a flag goes before the file even if it says the default", got.TopK.K)
	}
	if got.Epochs.Flows != 500 {
		t.Errorf("flows %d: the file goes before the default", got.Epochs.Flows)
	}
}

func TestKey(t *testing.T) {
	secretFile := config.Sketch{KeyFile: "testdata/good.key"}
	key, secret, err := secretFile.Key()
	want := siphash.NewKey([16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
	if err != nil || !secret || key != want {
		t.Errorf("got %v, secret %t, %v", key, secret, err)
	}
	public, secret, err := new(config.Sketch).Key()
	if err != nil || secret || public == key {
		t.Errorf("without a file: secret %t, %v", secret, err)
	}
}

func parse(t *testing.T, args ...string) *config.Options {
	t.Helper()
	options, err := config.Parse(args)
	if err != nil {
		t.Fatal(err)
	}
	return options
}

// text returns one line a setting.
func text(o *config.Options) string { return strings.Join(config.Lines(&o.Config), "\n") }

// Of a running exporter only what is said to be live may change.
func TestCheckReload(t *testing.T) {
	running := parse(t).Config
	live := parse(t, "--capture.include=eth.*", "--capture.exclude=eth9", "--capture.fleet=10.0.0.0/8", "--epochs.flows=7", "--epochs.retention=1m",
		"--topk.labels=networks", "--networks=10.0.0.0/8=corp").Config
	if err := running.CheckReload(&live); err != nil {
		t.Error(err)
	}
	for flag, want := range map[string]string{
		"--capture.epoch=2s":                 `capture.epoch: can't change from "500ms" to "2s" while the exporter runs; restart it`,
		"--capture.pin-path=/sys/fs/bpf/tma": `capture.pin_path: can't change from "" to "/sys/fs/bpf/tma" while the exporter runs; restart it`,
		"--topk.k=9":                         `topk.k: can't change from "20" to "9" while the exporter runs; restart it`,
	} {
		other := parse(t, flag).Config
		wantError(t, running.CheckReload(&other), want)
	}
}
