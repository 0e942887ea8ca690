package config

import (
	"os"
	"strings"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/docs"
	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

const document = "../../docs/configuration.md"

func TestDocumentation(t *testing.T) {
	docs.Section(t, document, "exporter settings", settingsTables())
	var o Options
	isSetting := map[string]bool{}
	for _, s := range o.Config.settings() {
		isSetting[s.flag()] = true
	}
	docs.Section(t, document, "exporter flags", docs.Flags(o.flags(), func(name string) bool { return isSetting[name] }))
	example, err := os.ReadFile("testdata/complete.yml")
	if err != nil {
		t.Fatal(err)
	}
	docs.Section(t, document, "exporter example", "```yaml\n"+strings.TrimSpace(string(example))+"\n```")
}

// settingsTables returns a table for each section of the file.
func settingsTables() string {
	var b strings.Builder
	var section string
	var rows [][]string
	flush := func() {
		if len(rows) > 0 {
			b.WriteString("#### " + docs.Code(section) + "\n\n" +
				docs.Table([]string{"Key", "Flag", "Default", "Allowed", "On reload", "What it is"}, rows) + "\n")
		}
		rows = nil
	}
	defaults := Default()
	for _, s := range defaults.settings() {
		if name, _, _ := strings.Cut(s.key, "."); name != section {
			flush()
			section = name
		}
		rows = append(rows, []string{docs.Code(s.key), docs.Code("--" + s.flag()), docs.Code(s.String()), s.allowed(), s.onReload(), s.help})
	}
	flush()
	return b.String()
}

func (s *setting) allowed() string {
	if s.rule != nil {
		return s.rule.allowed
	}
	return yamlconf.Allowed(s.value)
}

func (s *setting) onReload() string {
	if s.live {
		return "changes"
	}
	return "needs a restart"
}
