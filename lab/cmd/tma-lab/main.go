// Command tma-lab brings the two-zone lab network up and down, and runs a
// demonstration of TMA in it.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kingpin/v2"

	"github.com/traffic-monitor-agent/tma/lab/demo"
	"github.com/traffic-monitor-agent/tma/lab/network"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run returns the exit code: 1 for an error, which it says.
func run(args []string, out, errors io.Writer) int {
	if err := dispatch(args, out); err != nil {
		fmt.Fprintf(errors, "tma-lab: %v\n", err)
		return 1
	}
	return 0
}

func dispatch(args []string, out io.Writer) error {
	c := demo.DefaultConfiguration()
	c.Output = out
	app := kingpin.New("tma-lab", "The two-zone lab network, made of network namespaces.")
	app.HelpFlag.Short('h')
	app.UsageWriter(os.Stdout)
	demonstrate := app.Command("demo", "Run exporters, traffic and aggregator in the lab and show what they see; Ctrl-C takes everything down.")
	demonstrate.Flag("duration", "End after this time; at most and by default a day.").Default(c.Duration.String()).DurationVar(&c.Duration)
	demonstrate.Flag("binaries", "Directory of the programs.").Default(c.Binaries).StringVar(&c.Binaries)
	check := app.Command("check", "Say what this machine lacks for the lab and for capturing, if anything.")
	up := app.Command("up", "Bring the network up and leave it: see `ip netns`.")
	down := app.Command("down", "Take the network down.")
	command, err := app.Parse(args)
	if err != nil {
		return err
	}
	switch command {
	case demonstrate.FullCommand():
		return runDemo(c)
	case check.FullCommand():
		return demo.CheckPrivileges()
	case up.FullCommand():
		return bringUp(c.Network)
	case down.FullCommand():
		return network.Down(c.Network)
	}
	return nil
}

func runDemo(c demo.Configuration) error {
	// SIGPIPE: if nobody reads the output any more, everything is taken down.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	return demo.Run(ctx, c)
}

func bringUp(c network.Configuration) error {
	if err := demo.CheckPrivileges(); err != nil {
		return err
	}
	_, err := network.Up(c)
	return err
}
