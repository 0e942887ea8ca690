package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/docs"
	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

// bounds are what check demands besides of what types do.
var bounds = map[string]string{
	"federation.delay":                          span(minDelay, maxDelay),
	"federation.name":                           "any text",
	"retention":                                 span(minRetention, maxRetention),
	"hhh.window":                                fmt.Sprintf("%s to the retention", yamlconf.Duration(minWindow)),
	"cardinality.windows":                       fmt.Sprintf("a list, each element %s to the retention", yamlconf.Duration(minWindow)),
	"limits.memory":                             fmt.Sprintf("%s to %s", minMemory, maxMemory),
	"global.scrape_timeout":                     span(minTimeout, maxTimeout),
	"scrape_configs[].scrape_timeout":           span(minTimeout, maxTimeout),
	"scrape_configs[].static_configs[].targets": "a list, each element " + allowedAddress + "; with `relabel_configs` anything that they make that of",
	"scrape_configs[].file_sd_configs":          prometheusKeys("file_sd_config"),
	"scrape_configs[].http_sd_configs":          prometheusKeys("http_sd_config"),
	"scrape_configs[].dns_sd_configs":           prometheusKeys("dns_sd_config"),
	"scrape_configs[].kubernetes_sd_configs":    prometheusKeys("kubernetes_sd_config"),
	"scrape_configs[].job_name":                 "any text, another for each job",
}

func prometheusKeys(section string) string {
	return fmt.Sprintf("a list, each element [Prometheus' `%s`](https://prometheus.io/docs/prometheus/latest/configuration/configuration/#%s)", section, section)
}

func span(least, greatest time.Duration) string {
	return fmt.Sprintf("%s to %s", yamlconf.Duration(least), yamlconf.Duration(greatest))
}

func TestDocumentation(t *testing.T) {
	c := Default()
	c.setWindows()
	var rows [][]string
	for _, key := range yamlconf.Keys(&c) {
		if key.Help == "" {
			t.Errorf("%s has no help", key.Path)
		}
		allowed := key.Allowed
		if bound, ok := bounds[key.Path]; ok {
			allowed = bound
		}
		rows = append(rows, []string{docs.Code(key.Path), docs.Code(key.Default), allowed, key.Help})
	}
	docs.Section(t, "../../docs/configuration.md", "aggregator settings",
		docs.Table([]string{"Key", "Default", "Allowed", "What it is"}, rows))
	var ignored [][]string
	for _, section := range []struct {
		name string
		keys []string
	}{{"", ignoredKeys}, {"global", ignoredGlobalKeys}, {"scrape_configs[]", ignoredJobKeys}} {
		ignored = append(ignored, []string{docs.Code(section.name), docs.Code(strings.Join(section.keys, ", "))})
	}
	docs.Section(t, "../../docs/configuration.md", "aggregator ignored keys", docs.Table([]string{"Section", "Keys"}, ignored))
}
