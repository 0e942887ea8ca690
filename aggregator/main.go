// Program tma-aggregator scrapes the exporters of a fleet and answers who talks
// to whom in it, each packet counted once.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/promslog"
	promslogflag "github.com/prometheus/common/promslog/flag"
	"github.com/prometheus/common/version"
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

// run is the program with its arguments. It returns nil when the context ends.
func run(ctx context.Context, arguments []string) error {
	app := kingpin.New("tma-aggregator", "Merges the traffic that TMA's exporters see into one picture of the fleet.")
	app.Version(version.Print("tma-aggregator")).HelpFlag.Short('h')
	file := app.Flag("config.file", "Configuration file.").Default("tma-aggregator.yml").String()
	checkOnly := app.Flag("config.check", "Check the configuration file and exit.").Bool()
	webFlags := kingpinflag.AddFlags(app, ":8080")
	logConfig := &promslog.Config{Writer: os.Stderr}
	promslogflag.AddFlags(app, logConfig)
	if _, err := app.Parse(arguments); err != nil {
		return fmt.Errorf("%w; see --help", err)
	}
	configuration, err := config.Load(filepath.Clean(*file))
	if err != nil {
		return err
	}
	if *checkOnly {
		fmt.Printf("%s: the configuration is valid\n", *file)
		return nil
	}
	aggregator, err := New(configuration, promslog.New(logConfig))
	if err != nil {
		return err
	}
	return aggregator.Run(ctx, webFlags)
}
