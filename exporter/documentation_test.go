package main

import (
	"io"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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
	return w
}

// sampleRegistry is that of windows that have had the sample epoch.
func sampleRegistry(t *testing.T) *prometheus.Registry {
	t.Helper()
	o, err := config.Parse(nil)
	must(t, err)
	w := sampleWindows(t, o)
	reload := newReloader(nil, &o.Config, nil, w, promslog.NewNopLogger())
	registry := w.registry(w.newHealth(sampleSource{}, &o.Config), reload)
	metricsHandler(registry, promslog.NewNopLogger())
	return registry
}

// docs/metrics.md has every metric that the program's registry has.
func TestDocumentation(t *testing.T) {
	docs.Section(t, metricsDocument, "exporter metrics", docs.Metrics(t, sampleRegistry(t)))
}

// sometimes are the metrics that a running exporter doesn't always have.
var sometimes = []string{
	"tma_capture_folded_bytes_total", "tma_capture_folded_packets_total", // where something was folded
	"tma_capture_program_runs_total", "tma_capture_program_seconds_total", // where the kernel counts them
}

// Neither the document nor a scrape of the running program, under traffic, has a name
// that the other doesn't have, and promtool has nothing to say.
func TestScrapeIsDocumented(t *testing.T) {
	inWeb(t, func(t *testing.T, log io.Writer) {
		wire(t, "eth0")
		exporter(t, log, "--capture.include=eth0", "--capture.memory=8MiB", "--capture.epoch=100ms")
		ready(t)
		defer startSender(t, "to-eth0").end()
		scrape := func() string { return get(t, "/metrics") }
		testutil.CheckMetrics(t, docs.CheckScrape(t, scrape, metricsDocument, "exporter metrics", sometimes...))
	})
}

// What isn't always in a scrape is checked, too.
func TestLint(t *testing.T) {
	families, err := sampleRegistry(t).Gather()
	must(t, err)
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	must(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	_, scrape := ask(t, http.MethodGet, serving(t).URL+"/metrics")
	testutil.CheckMetrics(t, scrape)
}
