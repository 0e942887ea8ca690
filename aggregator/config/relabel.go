package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

// RelabelConfig is a step of relabelling, spelled and meant as Prometheus'
// relabel_config. Targets come with __address__, __scheme__, __metrics_path__, job
// and their own labels.
type RelabelConfig struct {
	SourceLabels []string        `yaml:"source_labels" help:"Labels whose values, joined, are what the step looks at."`
	Separator    string          `yaml:"separator" help:"Between joined values."`
	Regex        yamlconf.Regexp `yaml:"regex" help:"What the joined values must match as a whole; all do by default."`
	Modulus      uint64          `yaml:"modulus" help:"Divisor of the hash, for hashmod."`
	TargetLabel  string          `yaml:"target_label" help:"The label that is written."`
	Replacement  string          `yaml:"replacement" help:"What is written, with the groups of the regular expression."`
	Action       RelabelAction   `yaml:"action" help:"What the step does."`
}

// SetDefaults makes RelabelConfig a yamlconf.Defaulter.
func (c *RelabelConfig) SetDefaults() {
	*c = RelabelConfig{
		Separator:   relabel.DefaultRelabelConfig.Separator,
		Replacement: relabel.DefaultRelabelConfig.Replacement,
		Action:      RelabelAction(relabel.DefaultRelabelConfig.Action),
	}
}

// RelabelAction is what a step does.
type RelabelAction relabel.Action

var relabelActions = []string{
	string(relabel.DropEqual), string(relabel.Drop), string(relabel.HashMod), string(relabel.KeepEqual),
	string(relabel.Keep), string(relabel.LabelDrop), string(relabel.LabelKeep), string(relabel.LabelMap),
	string(relabel.Lowercase), string(relabel.Replace), string(relabel.Uppercase),
}

// Allowed lists the actions.
func (a *RelabelAction) Allowed() string { return strings.Join(relabelActions, ", ") }

// UnmarshalText parses an action.
func (a *RelabelAction) UnmarshalText(text []byte) error {
	if *a = RelabelAction(strings.ToLower(string(text))); !slices.Contains(relabelActions, string(*a)) {
		return fmt.Errorf("%q isn't an action; allowed: %s", text, a.Allowed())
	}
	return nil
}

// Rule returns the step in Prometheus' own type, or what is wrong with it.
func (c *RelabelConfig) Rule() (*relabel.Config, error) {
	rule := relabel.DefaultRelabelConfig
	for _, label := range c.SourceLabels {
		rule.SourceLabels = append(rule.SourceLabels, model.LabelName(label))
	}
	if c.Regex.Regexp != nil {
		// It compiled already, anchored the same way.
		rule.Regex = relabel.MustNewRegexp(c.Regex.String())
	}
	rule.Separator, rule.Modulus, rule.TargetLabel = c.Separator, c.Modulus, c.TargetLabel
	rule.Replacement, rule.Action = c.Replacement, relabel.Action(c.Action)
	if err := rule.Validate(model.UTF8Validation); err != nil {
		return nil, fmt.Errorf("%w; allowed: a relabel_config as Prometheus documents it", err)
	}
	return &rule, nil
}

// RelabelRules returns the steps of a job; Load has checked them.
func (c *ScrapeConfig) RelabelRules() []*relabel.Config {
	rules := make([]*relabel.Config, 0, len(c.RelabelConfigs))
	for i := range c.RelabelConfigs {
		rule, err := c.RelabelConfigs[i].Rule()
		if err != nil {
			panic("config: a step of relabelling that wasn't checked: " + err.Error())
		}
		rules = append(rules, rule)
	}
	return rules
}

// checkRelabelling looks at the steps of the job under a key.
func (c *ScrapeConfig) checkRelabelling(key string) *yamlconf.Error {
	for i := range c.RelabelConfigs {
		if _, err := c.RelabelConfigs[i].Rule(); err != nil {
			return &yamlconf.Error{Key: fmt.Sprintf("%s.relabel_configs[%d]", key, i), Err: err}
		}
	}
	return nil
}
