// Package targets finds the exporters to scrape: it runs Prometheus' own service
// discovery, relabels what that finds and says which targets there are, each once.
package targets

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/targetgroup"

	"github.com/traffic-monitor-agent/tma/aggregator/config"
	"github.com/traffic-monitor-agent/tma/aggregator/scrape"
)

// Manager keeps the list of targets up to date.
type Manager struct {
	discovery *discovery.Manager
	end       context.CancelFunc // of the discovery
	apply     func([]scrape.Target)
	logger    *slog.Logger
	metrics   metrics

	mu     sync.Mutex
	jobs   []*job
	groups map[string][]*targetgroup.Group // what was discovered, by job
	warned map[string]bool                 // targets whose mistake was logged, and those of this round
}

// New returns a manager that finds nothing before Run and Apply. It calls apply with all
// targets, sorted by name, whenever they may have changed. The metrics of the discovery
// are Prometheus' own, prometheus_sd_*.
func New(apply func([]scrape.Target), registerer prometheus.Registerer, logger *slog.Logger) (*Manager, error) {
	sd, err := discovery.CreateAndRegisterSDMetrics(conventional{registerer})
	if err != nil {
		return nil, err
	}
	// Its discoverers run from Apply on, under a context that it wants from the start.
	ctx, end := context.WithCancel(context.Background())
	m := &Manager{
		discovery: discovery.NewManager(ctx, logger, registerer, sd),
		end:       end, apply: apply, logger: logger, metrics: newMetrics(),
		groups: make(map[string][]*targetgroup.Group),
	}
	if m.discovery == nil {
		end()
		return nil, errors.New("service discovery can't be set up") // it logged why
	}
	registerer.MustRegister(m.metrics.discovered, m.metrics.dropped)
	return m, nil
}

// Run takes what is discovered until the context ends. It always returns nil.
func (m *Manager) Run(ctx context.Context) error {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = m.discovery.Run() // the context's error
	}()
	defer func() {
		m.end()
		<-ended
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case groups := <-m.discovery.SyncCh():
			m.mu.Lock()
			m.groups = groups
			m.update()
			m.mu.Unlock()
		}
	}
}

// Apply takes over changed jobs. Where it fails the old ones stay.
func (m *Manager) Apply(configured []config.ScrapeConfig) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	jobs, err := m.newJobs(configured)
	if err != nil {
		return err
	}
	m.closeUnused(jobs)
	m.jobs = jobs
	discovered := make(map[string]discovery.Configs)
	for _, j := range jobs {
		if configs := j.Discovery(); len(configs) > 0 {
			discovered[j.JobName] = configs
		}
	}
	if err := m.discovery.ApplyConfig(discovered); err != nil {
		return err
	}
	maps.DeleteFunc(m.groups, func(name string, _ []*targetgroup.Group) bool { return discovered[name] == nil })
	m.metrics.reset()
	m.update()
	return nil
}

// idleTimeout is how long connections of targets that are gone stay.
const idleTimeout = time.Minute

// newJobs keeps the clients, with their connections, of jobs that are asked as before.
func (m *Manager) newJobs(configured []config.ScrapeConfig) ([]*job, error) {
	jobs := make([]*job, len(configured))
	for i := range configured {
		j := &job{ScrapeConfig: &configured[i], rules: configured[i].RelabelRules()}
		for _, old := range m.jobs {
			if old.JobName == j.JobName && reflect.DeepEqual(old.HTTPClient, j.HTTPClient) {
				j.client = old.client
			}
		}
		if j.client == nil {
			client, err := promconfig.NewClientFromConfig(j.HTTPClient, j.JobName, promconfig.WithIdleConnTimeout(idleTimeout))
			if err != nil {
				return nil, err
			}
			j.client = client
		}
		jobs[i] = j
	}
	return jobs, nil
}

// closeUnused closes connections of clients that no job has any more.
func (m *Manager) closeUnused(jobs []*job) {
	for _, old := range m.jobs {
		if !slices.ContainsFunc(jobs, func(j *job) bool { return j.client == old.client }) {
			old.client.CloseIdleConnections()
		}
	}
}

// update hands all targets on, each name once: the first job's that has it.
func (m *Manager) update() {
	byName := make(map[string]scrape.Target)
	warned := make(map[string]bool)
	for _, j := range m.jobs {
		found, counts := m.targetsOf(j, warned)
		for _, t := range found {
			if _, there := byName[t.Name]; there {
				counts.dropped[dropTwice]++
				continue
			}
			byName[t.Name] = t
		}
		m.metrics.set(j.JobName, counts)
	}
	m.warned = warned
	m.apply(slices.SortedFunc(maps.Values(byName), func(a, b scrape.Target) int { return strings.Compare(a.Name, b.Name) }))
}

// targetsOf relabels what was found for a job.
func (m *Manager) targetsOf(j *job, warned map[string]bool) (found []scrape.Target, c counts) {
	c.dropped = make(map[string]int)
	for _, group := range slices.Concat(j.groups(), m.groups[j.JobName]) {
		for _, own := range group.Targets {
			c.discovered++
			t, err := j.target(own, group.Labels)
			switch {
			case err == nil:
				found = append(found, t)
			case errors.Is(err, errDropped):
				c.dropped[dropRelabelling]++
			default:
				c.dropped[dropInvalid]++
				m.warn(j, err, warned)
			}
		}
	}
	if j.TargetLimit > 0 && uint(len(found)) > j.TargetLimit {
		c.dropped[dropLimit] = len(found)
		m.logger.Warn("No target of the job is scraped", "job", j.JobName, "targets", len(found), "target_limit", j.TargetLimit)
		return nil, c
	}
	return found, c
}

// maxWarned bounds how many different mistakes are logged.
const maxWarned = 100

// warn says once that a target is no target, as long as it is found.
func (m *Manager) warn(j *job, err error, warned map[string]bool) {
	key := j.JobName + " " + err.Error()
	if !m.warned[key] && len(warned) < maxWarned {
		m.logger.Warn("A target can't be scraped", "job", j.JobName, "err", err)
	}
	if len(warned) < maxWarned {
		warned[key] = true
	}
}
