package config

import (
	"fmt"
	"strings"

	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

// live are the beginnings of keys that change on a reload.
var live = []string{"global.", "scrape_configs[].", "networks"}

// CheckReload returns an error that names the first key in which another configuration
// differs that can't change while the aggregator runs.
func (c *Configuration) CheckReload(other *Configuration) error {
	others := yamlconf.Keys(other)
	for i, key := range yamlconf.Keys(c) {
		if now, then := key.Default, others[i].Default; now != then && !isLive(key.Path) {
			return fmt.Errorf("%s: can't change from %q to %q while the aggregator runs; restart it", key.Path, now, then)
		}
	}
	return nil
}

func isLive(key string) bool {
	for _, beginning := range live {
		if strings.HasPrefix(key, beginning) {
			return true
		}
	}
	return false
}
