package main

import (
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/traffic-monitor-agent/tma/aggregator/config"
	"github.com/traffic-monitor-agent/tma/aggregator/scrape"
)

// targets lists the targets that all jobs keep after relabelling, each URL once.
func targets(c config.Configuration) []scrape.Target {
	var list []scrape.Target
	seen := map[string]bool{}
	for i := range c.ScrapeConfigs {
		job := &c.ScrapeConfigs[i]
		rules := job.RelabelRules()
		for _, static := range job.StaticConfigs {
			for _, address := range static.Targets {
				t, keep := target(job, static.Labels, string(address), rules)
				if keep && !seen[t.URL] {
					seen[t.URL] = true
					list = append(list, t)
				}
			}
		}
	}
	return list
}

// target relabels one address as Prometheus does. It returns false if a step drops
// it.
func target(job *config.ScrapeConfig, static map[string]string, address string, rules []*relabel.Config) (scrape.Target, bool) {
	b := labels.NewBuilder(labels.EmptyLabels())
	b.Set(model.JobLabel, job.JobName)
	b.Set(model.AddressLabel, address)
	b.Set(model.SchemeLabel, string(job.Scheme))
	b.Set(model.MetricsPathLabel, string(job.MetricsPath))
	for name, value := range static {
		b.Set(name, value)
	}
	if !relabel.ProcessBuilder(b, rules...) || b.Get(model.AddressLabel) == "" {
		return scrape.Target{}, false
	}
	t := scrape.Target{
		Name:    b.Get(model.AddressLabel),
		URL:     b.Get(model.SchemeLabel) + "://" + b.Get(model.AddressLabel) + b.Get(model.MetricsPathLabel),
		Labels:  map[string]string{},
		Timeout: time.Duration(job.ScrapeTimeout),
	}
	b.Range(func(l labels.Label) {
		if !strings.HasPrefix(l.Name, model.ReservedLabelPrefix) {
			t.Labels[l.Name] = l.Value
		}
	})
	return t, true
}
