package docs

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Metrics returns tables of all metrics that the collectors of a registry describe,
// TMA's own first. It fails the test if there is a sample of another one. The type is
// that of a sample; a metric without one is taken for a gauge, or a counter by its name,
// which CheckScrape holds against a scrape.
func Metrics(t testing.TB, registry *prometheus.Registry) string {
	t.Helper()
	gathered, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	families, described := map[string]*dto.MetricFamily{}, descriptions(registry)
	for _, family := range gathered {
		families[family.GetName()] = family
		if _, ok := described[family.GetName()]; !ok {
			t.Errorf("no collector describes %s, so nobody knows of it without a scrape", family.GetName())
		}
	}
	var own, others [][]string
	for _, name := range slices.Sorted(maps.Keys(described)) {
		d := described[name]
		row := []string{Code(name), kind(name, families[name]), d.labels, unit(name), d.help}
		if strings.HasPrefix(name, "tma_") {
			own = append(own, row)
		} else {
			others = append(others, row)
		}
	}
	header := []string{"Metric", "Type", "Labels", "Unit", "What it is"}
	return Table(header, own) + "\nOf the process, as client_golang has them:\n\n" + Table(header, others)
}

// description is what a prometheus.Desc says.
type description struct{ help, labels string }

// descPattern reads the text of a prometheus.Desc, which has no accessors: name, help,
// labels with values and labels without.
var descPattern = regexp.MustCompile(`^Desc{fqName: ("(?:[^"\\]|\\.)*"), help: ("(?:[^"\\]|\\.)*"), .*constLabels: {(.*)}, variableLabels: {(.*)}}$`)

// descriptions returns what the collectors of a registry describe, by name.
func descriptions(registry *prometheus.Registry) map[string]description {
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		registry.Describe(descs)
	}()
	all := map[string]description{}
	for desc := range descs {
		match := descPattern.FindStringSubmatch(desc.String())
		if match == nil {
			panic("docs: not the text of a description: " + desc.String())
		}
		name, _ := strconv.Unquote(match[1])
		help, _ := strconv.Unquote(match[2])
		all[name] = description{help, labels(match[3], match[4])}
	}
	return all
}

var constLabel = regexp.MustCompile(`([a-z_]+)="`)

// labels lists the names of labels, from the text of both kinds.
func labels(constant, variable string) string {
	var names []string
	for _, match := range constLabel.FindAllStringSubmatch(constant, -1) {
		names = append(names, match[1])
	}
	if variable != "" {
		names = append(names, strings.Split(variable, ",")...)
	}
	slices.Sort(names)
	for i := range names {
		names[i] = Code(names[i])
	}
	return strings.Join(names, ", ")
}

// kind returns the type, of the samples if there are any.
func kind(name string, samples *dto.MetricFamily) string {
	switch {
	case samples != nil && samples.Metric[0].GetHistogram().GetSchema() != 0:
		return "histogram, classic and native"
	case samples != nil:
		return strings.ToLower(samples.GetType().String())
	case strings.HasSuffix(name, "_total"):
		return "counter"
	default:
		return "gauge"
	}
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
	row      = regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\| ([a-z]+)")
	typeLine = regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`)
)

// scrapeLimit is how long CheckScrape waits for metrics that come with traffic.
const scrapeLimit = 20 * time.Second

// CheckScrape compares names and types in scrapes of a running program, in the text
// format, with those in the tables of a section, and returns the last scrape. None may
// be in a scrape alone, and all but those that aren't always there must be in one soon.
func CheckScrape(t testing.TB, scrape func() string, file, section string, sometimes ...string) (last string) {
	t.Helper()
	documented := map[string]string{}
	for _, match := range row.FindAllStringSubmatch(Read(t, file, section), -1) {
		documented[match[1]] = match[2]
	}
	for deadline := time.Now().Add(scrapeLimit); ; time.Sleep(50 * time.Millisecond) {
		last = scrape()
		missing := maps.Clone(documented)
		for _, match := range typeLine.FindAllStringSubmatch(last, -1) {
			if documented[match[1]] != match[2] {
				t.Fatalf("%s is a %s, in %s a %q", match[1], match[2], file, documented[match[1]])
			}
			delete(missing, match[1])
		}
		for _, name := range sometimes {
			delete(missing, name)
		}
		if len(missing) == 0 {
			return last
		}
		if time.Now().After(deadline) {
			t.Fatalf("in %s and not in a scrape: %v", file, slices.Sorted(maps.Keys(missing)))
		}
	}
}
