package targets

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/traffic-monitor-agent/tma/aggregator/config"
	"github.com/traffic-monitor-agent/tma/aggregator/scrape"
)

// epochsPathLabel is to our path what __metrics_path__ is to Prometheus'.
const epochsPathLabel = "__epochs_path__"

const usualPath = "/v1/epochs"

// job is a group of exporters with what relabels and asks them.
type job struct {
	*config.ScrapeConfig
	rules  []*relabel.Config
	client *http.Client
}

// errDropped says that relabelling dropped a target, as was wished.
var errDropped = errors.New("dropped by relabelling")

// target relabels what was found as Prometheus does.
func (j *job) target(own, group model.LabelSet) (scrape.Target, error) {
	b := labels.NewBuilder(labels.EmptyLabels())
	j.populate(b, own, group)
	if !relabel.ProcessBuilder(b, j.rules...) {
		return scrape.Target{}, errDropped
	}
	address, scheme, path := b.Get(model.AddressLabel), config.Scheme(b.Get(model.SchemeLabel)), config.Path(b.Get(epochsPathLabel))
	for _, err := range []error{config.CheckAddress(address), scheme.UnmarshalText([]byte(scheme)), path.UnmarshalText([]byte(path))} {
		if err != nil {
			return scrape.Target{}, err
		}
	}
	name := address
	if path != usualPath {
		name += string(path)
	}
	if b.Get(model.InstanceLabel) == "" {
		b.Set(model.InstanceLabel, address)
	}
	return scrape.Target{
		Name: name, URL: fmt.Sprintf("%s://%s%s", scheme, address, path),
		Labels: visible(b), Timeout: time.Duration(j.ScrapeTimeout), Client: j.client,
	}, nil
}

// populate sets the labels before relabelling: the target's own go before its group's,
// and both before the job's.
func (j *job) populate(b *labels.Builder, own, group model.LabelSet) {
	b.Set(model.JobLabel, j.JobName)
	b.Set(model.SchemeLabel, string(j.Scheme))
	b.Set(model.MetricsPathLabel, j.MetricsPath)
	b.Set(epochsPathLabel, string(j.EpochsPath))
	b.Set(model.ScrapeTimeoutLabel, j.ScrapeTimeout.String())
	for name, values := range j.Params {
		if len(values) > 0 {
			b.Set(model.ParamLabelPrefix+name, values[0])
		}
	}
	for _, set := range []model.LabelSet{group, own} {
		for name, value := range set {
			b.Set(string(name), string(value))
		}
	}
}

// visible returns the labels that aren't reserved.
func visible(b *labels.Builder) map[string]string {
	found := make(map[string]string)
	b.Range(func(l labels.Label) {
		if !strings.HasPrefix(l.Name, model.ReservedLabelPrefix) {
			found[l.Name] = l.Value
		}
	})
	return found
}

// groups returns the job's static targets as discovery returns others.
func (j *job) groups() []*targetgroup.Group {
	groups := make([]*targetgroup.Group, 0, len(j.StaticConfigs))
	for _, static := range j.StaticConfigs {
		group := &targetgroup.Group{Labels: make(model.LabelSet)}
		for name, value := range static.Labels {
			group.Labels[model.LabelName(name)] = model.LabelValue(value)
		}
		for _, address := range static.Targets {
			group.Targets = append(group.Targets, model.LabelSet{model.AddressLabel: model.LabelValue(address)})
		}
		groups = append(groups, group)
	}
	return groups
}
