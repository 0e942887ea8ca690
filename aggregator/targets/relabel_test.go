package targets

import (
	"reflect"
	"testing"
	"time"

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
	c := load(t, text)
	want := []scrape.Target{
		{Name: "host-a:10017", URL: "http://host-a:10017/v1/epochs", Labels: map[string]string{"instance": "host-a:10017", "job": "tma", "rack": "rack-a"}},
		{Name: "host-b:10017", URL: "http://host-b:10017/v1/epochs", Labels: map[string]string{"instance": "host-b:10017", "job": "tma", "rack": "rack-a"}},
		{Name: "host-c:10018", URL: "http://host-c:10018/v1/epochs", Labels: map[string]string{"instance": "host-c:10018", "job": "tma", "rack": "rack-b"}},
	}
	got := targetsOf(t, c)
	for i := range got {
		if got[i].Client == nil || got[i].Timeout != 4*time.Second {
			t.Errorf("%s has timeout %v", got[i].Name, got[i].Timeout)
		}
		got[i].Client, got[i].Timeout = nil, 0
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}
