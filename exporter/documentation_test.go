package main

import (
	"io"
	"maps"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/promslog"

	"github.com/traffic-monitor-agent/tma/exporter/capture"
	"github.com/traffic-monitor-agent/tma/exporter/config"
	"github.com/traffic-monitor-agent/tma/internal/docs"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

const metricsDocument = "../docs/metrics.md"

// sampleSource is a capture that has something of everything.
type sampleSource struct{}

func (sampleSource) Health() *capture.Health {
	return &capture.Health{End: time.Unix(101, 0), CacheRoom: 1, TableRoom: 1, RingRoom: 1}
}

func (sampleSource) ProgramStats() []capture.ProgramStats {
	return []capture.ProgramStats{{Direction: flow.Ingress, Runs: 10, Time: time.Microsecond}}
}

func (sampleSource) Memory() []capture.MemoryUse {
	return []capture.MemoryUse{{Part: "ring", Bytes: 1 << 20}}
}

// sampleEpoch has something of everything, and conserves it.
func sampleEpoch() *epoch.Epoch {
	count, folded, other := epoch.Count{Packets: 10, Bytes: 15000}, epoch.Count{Packets: 2, Bytes: 120}, epoch.Count{Packets: 1, Bytes: 42}
	total := count
	total.Add(folded)
	total.Add(other)
	e := &epoch.Epoch{
		Host: "host-a", Sequence: 1, Start: time.Unix(100, 0), End: time.Unix(101, 0),
		Devices: []epoch.Device{{
			Name: "eth0", Direction: flow.Egress, Total: total, Others: []epoch.Reason{{Reason: "not_ip", Count: other}},
		}},
		Flows: []epoch.Flow{{Key: flow.Key{Protocol: flow.ProtocolTCP, SourcePort: 40000, DestinationPort: 443}, Count: count}},
	}
	for _, dimension := range flow.Dimensions {
		e.Ladders = append(e.Ladders, epoch.Ladder{
			Dimension: dimension, Entries: []epoch.Prefix{{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Count: folded}},
		})
	}
	for _, of := range []string{epoch.OfFlows, epoch.OfSources, epoch.OfDestinations, epoch.OfDestinationPorts} {
		e.Sketches = append(e.Sketches, epoch.Sketch{Of: of, HLL: new(hll.Sketch)})
	}
	return e
}

// sampleWindows has had the sample epoch, of the sample source.
func sampleWindows(t *testing.T, o *config.Options) *windows {
	t.Helper()
	w := unfedWindows(o)
	w.sink(promslog.NewNopLogger())(sampleEpoch(), time.Millisecond)
	return w
}

// unfedWindows had no epoch yet.
func unfedWindows(o *config.Options) *windows {
	w := newWindows(&o.Config)
	w.attachments = func() []capture.Attachment {
		return []capture.Attachment{{Device: "eth0", Direction: flow.Egress, Hook: "tcx"}}
	}
	w.health = w.newHealth(sampleSource{}, &o.Config)
	return w
}

// docs/metrics.md has every metric that the program's registry has.
func TestDocumentation(t *testing.T) {
	o, err := config.Parse(nil)
	must(t, err)
	w := sampleWindows(t, o)
	registry := w.registry(newReloader(nil, &o.Config, nil, w.history, promslog.NewNopLogger()))
	metricsHandler(registry)
	docs.Section(t, metricsDocument, "exporter metrics", docs.Metrics(t, registry))
}

// sometimes are the metrics that a running exporter doesn't always have.
var sometimes = []string{
	"tma_capture_folded_bytes_total", "tma_capture_folded_packets_total", // where something was folded
	"tma_capture_program_runs_total", "tma_capture_program_seconds_total", // where the kernel counts them
}

var typeLine = regexp.MustCompile(`(?m)^# TYPE (\S+) `)

// Neither the document nor a scrape of the running program has a name that the other
// doesn't have, and neither promtool nor promlint has anything to say.
func TestScrapeIsDocumented(t *testing.T) {
	inWeb(t, func(t *testing.T, log io.Writer) {
		wire(t, "eth0")
		exporter(t, log, "--capture.include=eth0", "--capture.memory=8MiB", "--capture.epoch=100ms")
		var scrape string
		ready(t)
		testutil.Eventually(t, 20*time.Second, "top talkers", func() bool {
			scrape = get(t, "/metrics")
			return strings.Contains(scrape, "\ntma_flow_bytes_per_second{")
		})
		testutil.CheckMetrics(t, scrape)
		documented := map[string]bool{}
		for _, name := range docs.Names(docs.Read(t, metricsDocument, "exporter metrics")) {
			documented[name] = true
		}
		for _, match := range typeLine.FindAllStringSubmatch(scrape, -1) {
			if !documented[match[1]] {
				t.Errorf("%s isn't in %s", match[1], metricsDocument)
			}
			delete(documented, match[1])
		}
		for _, name := range sometimes {
			delete(documented, name)
		}
		if len(documented) != 0 {
			t.Errorf("not in a scrape: %v", slices.Sorted(maps.Keys(documented)))
		}
	})
}

// What isn't always in a scrape is checked, too.
func TestLint(t *testing.T) {
	o, err := config.Parse(nil)
	must(t, err)
	w := sampleWindows(t, o)
	registry := w.registry(newReloader(nil, &o.Config, nil, w.history, promslog.NewNopLogger()))
	families, err := registry.Gather()
	must(t, err)
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	must(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	server := serving(t)
	_, scrape := ask(t, http.MethodGet, server.URL+"/metrics")
	testutil.CheckMetrics(t, scrape)
}
