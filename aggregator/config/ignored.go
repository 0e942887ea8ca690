package config

import "slices"

// The keys of Prometheus' configuration that mean nothing here: a file that was
// written for Prometheus may have them.
var (
	ignoredKeys = []string{
		"alerting", "otlp", "remote_read", "remote_write", "rule_files", "runtime", "storage", "tracing",
	}
	ignoredGlobalKeys = []string{
		"always_scrape_classic_histograms", "body_size_limit", "convert_classic_histograms_to_nhcb", "evaluation_interval",
		"external_labels", "extra_scrape_metrics", "keep_dropped_targets", "label_limit", "label_name_length_limit",
		"label_value_length_limit", "metric_name_escaping_scheme", "metric_name_validation_scheme", "query_log_file",
		"query_max_duration", "query_max_samples_read", "query_max_series", "rule_query_offset", "sample_limit",
		"scrape_failure_log_file", "scrape_interval", "scrape_native_histograms", "scrape_protocols",
	}
	ignoredJobKeys = []string{
		"always_scrape_classic_histograms", "body_size_limit", "convert_classic_histograms_to_nhcb", "enable_compression",
		"extra_scrape_metrics", "fallback_scrape_protocol", "honor_labels", "honor_timestamps", "keep_dropped_targets",
		"label_limit", "label_name_length_limit", "label_value_length_limit", "metric_name_escaping_scheme",
		"metric_name_validation_scheme", "metric_relabel_configs", "native_histogram_bucket_limit",
		"native_histogram_min_bucket_factor", "sample_limit", "scrape_failure_log_file", "scrape_interval",
		"scrape_native_histograms", "scrape_protocols", "track_timestamps_staleness",
	}
)

// ignored are the paths of keys that were passed over.
type ignored []string

func (i *ignored) note(allowed []string, key, path string) bool {
	if !slices.Contains(allowed, key) {
		return false
	}
	*i = append(*i, path)
	return true
}

// Ignore makes Configuration yamlconf.Tolerant.
func (c *Configuration) Ignore(key, path string) bool { return c.ignored.note(ignoredKeys, key, path) }

// Ignore makes Global yamlconf.Tolerant.
func (g *Global) Ignore(key, path string) bool { return g.ignored.note(ignoredGlobalKeys, key, path) }

// Ignore makes ScrapeConfig yamlconf.Tolerant.
func (c *ScrapeConfig) Ignore(key, path string) bool {
	return c.ignored.note(ignoredJobKeys, key, path)
}

// Ignored lists the keys of the file that Prometheus knows and that mean nothing here.
func (c *Configuration) Ignored() []string {
	paths := slices.Concat(c.ignored, c.Global.ignored)
	for i := range c.ScrapeConfigs {
		paths = append(paths, c.ScrapeConfigs[i].ignored...)
	}
	return paths
}
