package config

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/promslog/flag"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"github.com/traffic-monitor-agent/tma/exporter/top"
)

// DefaultAddress is where the exporter listens unless told otherwise.
const DefaultAddress = ":10017"

// Options are all that a command line says.
type Options struct {
	Command       string // one of the Command constants
	Config        Config
	File          string // the YAML file; empty for none
	CheckOnly     bool   // end after checking the configuration
	TelemetryPath string // of the metrics
	Profiles      bool   // serve /debug/pprof/
	Web           *web.FlagConfig
	Log           *promslog.Config
	Top           top.Configuration
}

// What the program is told to do.
const (
	CommandRun    = "run" // if nothing is said
	CommandDetach = "detach"
	CommandTop    = "top"
)

// Parse reads a command line, without the program's name, and the file that it
// names. Errors are one line. Like every kingpin program it ends by itself on
// --help and --version.
func Parse(args []string) (*Options, error) {
	first := Options{Config: Default()}
	if _, err := first.flags().Parse(args); err != nil {
		return nil, err
	}
	// The file goes between defaults and flags, and only the flags say where it
	// is: so they are read once more, over it.
	options := Options{Config: Default()}
	if first.File != "" {
		if err := options.Config.Load(first.File); err != nil {
			return nil, err
		}
	}
	var err error
	if options.Command, err = options.flags().Parse(args); err != nil {
		return nil, err
	}
	if options.Command == CommandDetach && options.Config.Capture.PinPath == "" {
		return nil, errors.New("--capture.pin-path: missing; allowed: the path of the exporter that is to be detached")
	}
	if options.Config.TopK.Labels == LabelNetworks && len(options.Config.Networks) == 0 {
		return nil, errors.New("topk.labels: no network has a name; allowed: addresses, or names under networks")
	}
	if err := checkTelemetryPath(options.TelemetryPath); err != nil {
		return nil, err
	}
	if err := web.Validate(*options.Web.WebConfigFile); err != nil {
		return nil, fmt.Errorf("--web.config.file: %s", strings.Join(strings.Fields(err.Error()), " "))
	}
	return &options, nil
}

// flags returns the command line whose flags write into o. A flag that isn't
// given leaves the configuration as it is.
func (o *Options) flags() *kingpin.Application {
	app := kingpin.New("tma-exporter", "Counts every packet of a host and says who talks to whom.")
	app.UsageWriter(os.Stdout)
	app.Version(version.Print("tma-exporter"))
	app.HelpFlag.Short('h')
	app.Command(CommandRun, "Capture and serve; this is the default.").Default()
	app.Command(CommandDetach, "Detach and remove what an exporter that doesn't run any more left under --capture.pin-path.")
	o.Top.AddFlags(app.Command(CommandTop, "Show the traffic of a running exporter, here or on another host, as it goes: a screen in a terminal, plain tables elsewhere."))
	app.Flag("config.file", "YAML configuration file; its keys are those of the flags.").StringVar(&o.File)
	app.Flag("config.check", "Check the configuration and end.").BoolVar(&o.CheckOnly)
	app.Flag("web.telemetry-path", "Path under which the metrics are.").Default("/metrics").StringVar(&o.TelemetryPath)
	app.Flag("web.enable-pprof", "Serve profiles of the exporter itself under /debug/pprof/.").BoolVar(&o.Profiles)
	o.Web = kingpinflag.AddFlags(app, DefaultAddress)
	for _, s := range o.Config.settings() {
		app.Flag(s.flag(), s.help).PlaceHolder(s.String()).SetValue(&flagValue{setting: s})
	}
	o.Log = &promslog.Config{}
	flag.AddFlags(app, o.Log)
	return app
}

// checkTelemetryPath refuses paths that other handlers have, and those that no
// request has.
func checkTelemetryPath(given string) error {
	taken := given == "/" || strings.HasPrefix(given, "/v1/") || strings.HasPrefix(given, "/-/") || strings.HasPrefix(given, "/debug/pprof")
	if !strings.HasPrefix(given, "/") || taken || path.Clean(given) != given || strings.ContainsAny(given, "{} \t?#%") {
		return fmt.Errorf("--web.telemetry-path: %q isn't free; allowed: a path such as /metrics, but not the root or one below /v1, /- or /debug/pprof", given)
	}
	return nil
}

// flagValue is a setting as a flag.
type flagValue struct {
	setting
	given bool
}

// IsCumulative tells kingpin whether the flag may be repeated.
func (f *flagValue) IsCumulative() bool {
	return f.list() != nil
}

// Set takes the flag's text. A list's first flag replaces what the file said, as
// the flag of a single value does.
func (f *flagValue) Set(text string) error {
	if l := f.list(); l != nil && !f.given {
		l.clear()
	}
	f.given = true
	if err := f.set(text); err != nil {
		return fmt.Errorf("--%s: %w", f.flag(), err)
	}
	return nil
}
