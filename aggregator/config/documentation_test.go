package config

import (
	"fmt"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/docs"
	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

// bounds are what check demands besides of what types do.
var bounds = map[string]string{
	"retention":                       span(minRetention, maxRetention),
	"hhh.window":                      fmt.Sprintf("%s to the retention", yamlconf.Duration(minWindow)),
	"cardinality.windows":             fmt.Sprintf("a list, each element %s to the retention", yamlconf.Duration(minWindow)),
	"limits.memory":                   fmt.Sprintf("%s to %s", minMemory, maxMemory),
	"scrape_configs[].scrape_timeout": span(minTimeout, maxTimeout),
	"scrape_configs[].job_name":       "any text, another for each job",
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
}
