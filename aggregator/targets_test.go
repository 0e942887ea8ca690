package main

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/aggregator/config"
	"github.com/traffic-monitor-agent/tma/aggregator/scrape"
)

func TestTargetsAreRelabelled(t *testing.T) {
	const text = `
scrape_configs:
  - job_name: tma
    static_configs:
      - targets: [host-a:10017, host-b:10017, other:10017]
        labels: {zone: a}
      - targets: [host-c:9]
        labels: {zone: b}
    relabel_configs:
      - source_labels: [__address__]
        regex: host-.*
        action: keep
      - source_labels: [__address__]
        regex: (host-c):.*
        target_label: __address__
        replacement: $1:10018
      - source_labels: [zone]
        target_label: rack
        replacement: rack-$1
      - regex: zone
        action: labeldrop
`
	file := filepath.Join(t.TempDir(), "aggregator.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	want := []scrape.Target{
		{Name: "host-a:10017", URL: "http://host-a:10017/v1/epochs", Labels: map[string]string{"job": "tma", "rack": "rack-a"}, Timeout: 4 * time.Second},
		{Name: "host-b:10017", URL: "http://host-b:10017/v1/epochs", Labels: map[string]string{"job": "tma", "rack": "rack-a"}, Timeout: 4 * time.Second},
		{Name: "host-c:10018", URL: "http://host-c:10018/v1/epochs", Labels: map[string]string{"job": "tma", "rack": "rack-b"}, Timeout: 4 * time.Second},
	}
	if got := targets(c); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}
