package docs

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Metrics returns tables of all metrics of a registry, TMA's own first. The types and labels are
// those of samples, so each metric has to have one: it fails the test if one that a
// collector describes has none, or one that has isn't described.
func Metrics(t testing.TB, registry *prometheus.Registry) string {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	described := described(registry)
	var own, others [][]string
	for _, family := range families {
		name := family.GetName()
		if !described[name] {
			t.Errorf("no collector describes %s, so nobody knows of it without a scrape", name)
		}
		delete(described, name)
		row := []string{Code(name), kind(family), labels(family), unit(name), family.GetHelp()}
		if strings.HasPrefix(name, "tma_") {
			own = append(own, row)
		} else {
			others = append(others, row)
		}
	}
	for name := range described {
		t.Errorf("%s has no sample, so its type and labels aren't known: let the test make one", name)
	}
	header := []string{"Metric", "Type", "Labels", "Unit", "What it is"}
	return Table(header, own) + "\nOf the process, as client_golang has them:\n\n" + Table(header, others)
}

// name finds the name in the text of a description, which has no accessors.
var name = regexp.MustCompile(`fqName: "([^"]*)"`)

// described returns the names of all metrics that collectors of a registry describe.
func described(registry *prometheus.Registry) map[string]bool {
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		registry.Describe(descs)
	}()
	names := map[string]bool{}
	for desc := range descs {
		names[name.FindStringSubmatch(desc.String())[1]] = true
	}
	return names
}

func kind(family *dto.MetricFamily) string {
	kind := strings.ToLower(family.GetType().String())
	if h := family.Metric[0].GetHistogram(); h != nil && h.Schema != nil && len(h.Bucket) > 0 {
		return kind + ", classic and native"
	}
	return kind
}

func labels(family *dto.MetricFamily) string {
	var names []string
	for _, pair := range family.Metric[0].GetLabel() {
		names = append(names, Code(pair.GetName()))
	}
	return strings.Join(names, ", ")
}

// units are what names end in, longer ones first.
var units = []struct{ suffix, unit string }{
	{"_bytes_per_second", "bytes per second"},
	{"_packets_per_second", "packets per second"},
	{"_timestamp_seconds", "seconds since 1970"},
	{"_time_seconds", "seconds since 1970"},
	{"_seconds", "seconds"},
	{"_bytes", "bytes"},
	{"_packets", "packets"},
	{"_ratio", "ratio"},
	{"_relative_error", "ratio"},
}

// unit returns the unit that a metric has by its name.
func unit(name string) string {
	name = strings.TrimSuffix(name, "_total")
	for _, u := range units {
		if strings.HasSuffix(name, u.suffix) {
			return u.unit
		}
	}
	return ""
}

var (
	row      = regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\|")
	typeLine = regexp.MustCompile(`(?m)^# TYPE (\S+) `)
)

// CheckScrape compares the names in a scrape, in the text format, with those in the
// tables of a section. All must be in both, but for those that aren't in every scrape.
func CheckScrape(t testing.TB, scrape, file, section string, sometimes ...string) {
	t.Helper()
	documented := map[string]bool{}
	for _, match := range row.FindAllStringSubmatch(Read(t, file, section), -1) {
		documented[match[1]] = true
	}
	for _, match := range typeLine.FindAllStringSubmatch(scrape, -1) {
		if !documented[match[1]] {
			t.Errorf("%s isn't in %s", match[1], file)
		}
		delete(documented, match[1])
	}
	for _, name := range sometimes {
		delete(documented, name)
	}
	if len(documented) != 0 {
		t.Errorf("in %s and not in a scrape: %v", file, slices.Sorted(maps.Keys(documented)))
	}
}
