// Command tma-exporter counts every packet of a host in the kernel and serves
// who talks to whom: /metrics for Prometheus, /v1/epochs for tma-aggregator.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/traffic-monitor-agent/tma/exporter/capture"
	"github.com/traffic-monitor-agent/tma/exporter/config"
	"github.com/traffic-monitor-agent/tma/exporter/top"
)

func main() { os.Exit(run(os.Args[1:])) }

// run returns the exit code: 1, behind one line on standard error, if the
// configuration is wrong or something that must work doesn't.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	options, err := config.Parse(args)
	switch {
	case err != nil:
	case options.CheckOnly:
		fmt.Println("tma-exporter: the configuration is right")
	case options.Command == config.CommandDetach:
		err = detach(options.Config.Capture.PinPath)
	case options.Command == config.CommandTop:
		err = top.Run(ctx, options.Top, os.Stdout)
	default:
		err = serve(ctx, args, options)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tma-exporter:", err)
		return 1
	}
	return 0
}

// detach says in one line what it did.
func detach(path string) error {
	devices, err := capture.Detach(path)
	if err == nil {
		fmt.Printf("tma-exporter: detached from %d devices, nothing is pinned under %s\n", devices, path)
	}
	return err
}
