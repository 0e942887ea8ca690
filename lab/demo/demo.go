package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/netns"
	"github.com/traffic-monitor-agent/tma/lab/network"
)

// demo is what is up.
type demo struct {
	configuration Configuration
	directory     string // of the children's configuration files
	network       *network.Network
	home          *netns.Namespace // the caller's
	exporters     []endpoint
	aggregator    endpoint
	children      []*child
	view          *screen
}

// endpoint is where a child serves HTTP.
type endpoint struct{ name, address string }

// Run brings the demo up, shows it until the duration is over or the context
// is done, and takes it down. The error is nil in both cases; it says so if a
// child ended on its own.
func Run(ctx context.Context, c Configuration) error {
	if err := c.validate(); err != nil {
		return err
	}
	if err := CheckRequirements(c); err != nil {
		return err
	}
	d := &demo{configuration: c, view: newScreen(c.Output)}
	err := d.up(ctx)
	if err == nil {
		err = d.show(ctx)
	}
	if ctx.Err() != nil {
		err = nil
	}
	return errors.Join(err, d.down())
}

func (d *demo) up(ctx context.Context) (err error) {
	if d.home, err = netns.Current(); err != nil {
		return err
	}
	if d.network, err = network.Up(d.configuration.Network); err != nil {
		return err
	}
	if err := d.makeDirectory(); err != nil {
		return err
	}
	for _, step := range []func() error{d.startExporters, d.startAggregator, d.startTraffic} {
		if err := step(); err != nil {
			return err
		}
		if err := d.waitReady(ctx); err != nil {
			return err
		}
	}
	d.view.footer = d.footer()
	return d.view.print(d.addresses())
}

// down stops the children first: they are in the namespaces.
func (d *demo) down() error {
	stopAll(d.children)
	var failed []error
	if d.network != nil {
		failed = append(failed, d.network.Down())
	}
	if d.home != nil {
		failed = append(failed, d.home.Close())
	}
	if d.directory != "" {
		failed = append(failed, os.RemoveAll(d.directory))
	}
	return errors.Join(failed...)
}

// refresh is the time between two views.
const refresh = time.Second

func (d *demo) show(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.configuration.Duration)
	defer cancel()
	ticker := time.NewTicker(refresh)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := d.checkChildren(); err != nil {
			return err
		}
		lines := d.frame(ctx, d.view.tableRows())
		if ctx.Err() != nil {
			return nil
		}
		if err := d.view.draw(lines); err != nil {
			return err
		}
	}
}

func (d *demo) checkChildren() error {
	for _, c := range d.children {
		if err := c.ended(); err != nil {
			return err
		}
	}
	return nil
}

// start starts a program of the demo in a namespace.
func (d *demo) start(name string, in *netns.Namespace, cmd *exec.Cmd) error {
	c, err := start(name, in, cmd)
	if err != nil {
		return err
	}
	d.children = append(d.children, c)
	return nil
}

// makeDirectory makes the directory for configurations, in place of one that a
// killed run left: none that is in use, as the network couldn't be up then.
func (d *demo) makeDirectory() error {
	directory := filepath.Join(os.TempDir(), d.configuration.Network.Prefix+"demo")
	if err := os.RemoveAll(directory); err != nil {
		return err
	}
	if err := os.Mkdir(directory, 0o700); err != nil {
		return err
	}
	d.directory = directory
	return nil
}

// write writes a configuration file and returns its path.
func (d *demo) write(name, text string) (string, error) {
	path := filepath.Join(d.directory, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write a configuration: %w", err)
	}
	return path, nil
}
