// Program tma-aggregator scrapes the exporters of a fleet and answers who talks
// to whom in it, each packet counted once.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/promslog"
	promslogflag "github.com/prometheus/common/promslog/flag"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"github.com/traffic-monitor-agent/tma/aggregator/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "tma-aggregator: %v\n", err)
		os.Exit(1)
	}
}

// options are all that a command line says.
type options struct {
	file      string
	checkOnly bool // end after checking the file
	web       *web.FlagConfig
	log       promslog.Config
}

// flags returns the command line whose flags write into o.
func (o *options) flags() *kingpin.Application {
	app := kingpin.New("tma-aggregator", "Merges the traffic that TMA's exporters see into one picture of the fleet.")
	app.Version(version.Print("tma-aggregator")).HelpFlag.Short('h')
	app.Flag("config.file", "Configuration file.").Default("tma-aggregator.yml").StringVar(&o.file)
	app.Flag("config.check", "Check the configuration file and exit.").BoolVar(&o.checkOnly)
	o.web = kingpinflag.AddFlags(app, ":8080")
	o.log.Writer = os.Stderr
	promslogflag.AddFlags(app, &o.log)
	return app
}

// limitMemory has the garbage collector work harder before the process takes more,
// unless the environment says when. A sixteenth is for what isn't the collector's.
func limitMemory(bytes uint64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(bytes - bytes/16))
	}
}

// run is the program with its arguments. It returns nil when the context ends.
func run(ctx context.Context, arguments []string) error {
	var o options
	if _, err := o.flags().Parse(arguments); err != nil {
		return fmt.Errorf("%w; see --help", err)
	}
	if err := web.Validate(*o.web.WebConfigFile); err != nil {
		return fmt.Errorf("--web.config.file: %s", strings.Join(strings.Fields(err.Error()), " "))
	}
	o.file = filepath.Clean(o.file)
	configuration, err := config.Load(o.file)
	if err != nil {
		return err
	}
	if o.checkOnly {
		fmt.Printf("%s: the configuration is valid\n", o.file)
		return nil
	}
	limitMemory(uint64(configuration.Limits.Memory))
	aggregator, err := New(configuration, o.file, promslog.New(&o.log))
	if err != nil {
		return err
	}
	return aggregator.Run(ctx, o.web)
}
