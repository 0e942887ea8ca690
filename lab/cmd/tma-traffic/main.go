// Command tma-traffic sends packets of known flows to the addresses it is
// given, and writes how many packets and bytes it sent of each.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/traffic-monitor-agent/tma/lab/traffic"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run returns the exit code: 0 when the traffic was sent, or ended by a
// signal, and 1 for an error, which it says in one line.
func run(args []string, out, messages io.Writer) int {
	if err := send(args, out); err != nil {
		fmt.Fprintf(messages, "tma-traffic: %v\n", err)
		return 1
	}
	return 0
}

func send(args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	sender, err := o.sender()
	if err != nil {
		return err
	}
	truth, err := o.openTruth()
	if err != nil {
		return err
	}
	defer truth.Close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	result, err := sender.Run(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "sent %d packets, %d bytes in %v (%.0f packets/s), %d attempts refused\n",
		result.Packets, result.Bytes, result.Elapsed.Round(time.Millisecond), result.Rate(), result.Refused)
	return traffic.WriteTruth(truth, sender.Flows())
}

// sender is a generator, or a controller with its server.
type sender interface {
	Run(context.Context) (traffic.Result, error)
	Flows() []traffic.Flow
}

func (o *options) sender() (sender, error) {
	if !o.controlled {
		return traffic.New(o.configuration)
	}
	if o.configuration.Mode != traffic.Normal {
		return nil, errors.New("--controller starts in normal mode: it can't be used with --mode=heavy")
	}
	controller, err := traffic.NewController(o.configuration, o.heavy)
	if err != nil {
		return nil, err
	}
	return &served{controller, o.web}, nil
}
