// Package packaging_test holds what the package of tma-exporter ships to what the program
// says.
package packaging_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/traffic-monitor-agent/tma/exporter/config"
)

const shipped = "exporter.yml"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// commented is a key that is commented out; behind the sign of a sentence comes a space.
var commented = regexp.MustCompile(`(?m)^( *)#([a-z0-9_]+:)`)

// The configuration as shipped changes nothing; what it shows as the defaults are the
// defaults, and there is every key.
func TestShippedConfigurationIsTheDefault(t *testing.T) {
	text, err := os.ReadFile(shipped)
	must(t, err)
	all := filepath.Join(t.TempDir(), shipped)
	must(t, os.WriteFile(all, commented.ReplaceAll(text, []byte("$1$2")), 0o600))
	for _, file := range []string{shipped, all} {
		got := config.Default()
		must(t, got.Load(file))
		if want := config.Default(); !reflect.DeepEqual(normal(t, got), normal(t, want)) {
			t.Errorf("%s: %v, want the defaults %v", file, normal(t, got), normal(t, want))
		}
	}
	written, err := os.ReadFile(all)
	must(t, err)
	var keys map[string]any
	must(t, yaml.Unmarshal(written, &keys))
	if got, want := names(keys), names(normal(t, config.Default())); !slices.Equal(got, want) {
		t.Errorf("keys %v, want %v", got, want)
	}
}

// names lists all keys of a configuration, those of a section behind its name.
func names(sections map[string]any) (all []string) {
	for section, value := range sections {
		all = append(all, section)
		keys, _ := value.(map[string]any) // a list has none
		for key := range keys {
			all = append(all, section+"."+key)
		}
	}
	slices.Sort(all)
	return all
}

// normal is a configuration as YAML has it.
func normal(t *testing.T, c config.Config) (sections map[string]any) {
	t.Helper()
	text, err := yaml.Marshal(c)
	must(t, err)
	must(t, yaml.Unmarshal(text, &sections))
	return sections
}

// The service is exposed as little as its task allows: systemd's own measure, from 0 to
// 10, is at most 2.
func TestServiceIsHardened(t *testing.T) {
	unit := filepath.Join(t.TempDir(), "tma-exporter.service")
	text, err := os.ReadFile("debian/service")
	must(t, err)
	must(t, os.WriteFile(unit, text, 0o600))
	output, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=20", unit).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, output)
	}
}

// The service gets the capabilities that tests run the program with, and no other.
func TestCapabilitiesOfService(t *testing.T) {
	text, err := os.ReadFile("debian/service")
	must(t, err)
	for _, key := range []string{"AmbientCapabilities", "CapabilityBoundingSet"} {
		if want := "\n" + key + "=CAP_BPF CAP_NET_ADMIN CAP_PERFMON\n"; strings.Count(string(text), want) != 1 {
			t.Errorf("the unit has no line %q", strings.TrimSpace(want))
		}
	}
}
