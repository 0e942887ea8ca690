package targets

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Why targets that were found aren't scraped: values of the label reason.
const (
	dropRelabelling = "relabelling" // as relabel_configs say
	dropInvalid     = "invalid"     // no address, or no URL
	dropTwice       = "duplicate"   // there already
	dropLimit       = "limit"       // more than target_limit
)

var dropReasons = []string{dropRelabelling, dropInvalid, dropTwice, dropLimit}

// counts are about the targets of one job.
type counts struct {
	discovered int
	dropped    map[string]int // by reason
}

type metrics struct{ discovered, dropped *prometheus.GaugeVec }

func newMetrics() metrics {
	return metrics{
		discovered: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tma_discovered_targets",
			Help: "Targets of the job that were found, static ones included, before relabelling.",
		}, []string{"job"}),
		dropped: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tma_dropped_targets",
			Help: "Targets that were found and aren't scraped: dropped by relabelling, invalid, there already (duplicate), or more than the job's limit.",
		}, []string{"job", "reason"}),
	}
}

// reset forgets all jobs.
func (m *metrics) reset() {
	m.discovered.Reset()
	m.dropped.Reset()
}

func (m *metrics) set(job string, c counts) {
	m.discovered.WithLabelValues(job).Set(float64(c.discovered))
	for _, reason := range dropReasons {
		m.dropped.WithLabelValues(job, reason).Set(float64(c.dropped[reason]))
	}
}

// conventional registers all metrics but one of Prometheus', whose name has its type in
// it, which promtool refuses; prometheus_sd_refresh_duration_seconds says as much.
type conventional struct{ prometheus.Registerer }

const unconventional = `"prometheus_sd_refresh_duration_histogram_seconds"`

// Register implements prometheus.Registerer.
func (c conventional) Register(collector prometheus.Collector) error {
	described := make(chan *prometheus.Desc, 16)
	go func() {
		defer close(described)
		collector.Describe(described)
	}()
	skip := false
	for d := range described {
		skip = skip || strings.Contains(d.String(), unconventional)
	}
	if skip {
		return nil
	}
	return c.Registerer.Register(collector)
}
