package capture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
)

const (
	// resyncInterval is how often the interfaces are listed without an event, in
	// case one was lost.
	resyncInterval = 10 * time.Second
	// settleInterval is how long events are gathered before the interfaces are
	// listed: many come at a time.
	settleInterval = 20 * time.Millisecond
)

// subscribe returns a channel that gets something when interfaces or addresses
// change, until the context ends.
func subscribe(ctx context.Context) (<-chan struct{}, error) {
	links, addresses := make(chan netlink.LinkUpdate, 64), make(chan netlink.AddrUpdate, 64)
	if err := netlink.LinkSubscribe(links, ctx.Done()); err != nil {
		return nil, fmt.Errorf("follow the interfaces: %w", err)
	}
	if err := netlink.AddrSubscribe(addresses, ctx.Done()); err != nil {
		return nil, fmt.Errorf("follow the addresses: %w", err)
	}
	events := make(chan struct{}, 1)
	go func() {
		for links != nil || addresses != nil {
			select {
			case _, ok := <-links:
				if !ok {
					links = nil
				}
			case _, ok := <-addresses:
				if !ok {
					addresses = nil
				}
			}
			select {
			case events <- struct{}{}:
			default: // one is waiting already
			}
		}
	}()
	return events, nil
}

func (d *devices) follow(ctx context.Context, events <-chan struct{}) {
	resync := time.NewTicker(resyncInterval)
	defer resync.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-resync.C:
		case <-events:
			select {
			case <-ctx.Done():
				return
			case <-time.After(settleInterval):
			}
		}
		if ctx.Err() != nil {
			return
		}
		if err := d.sync(); err != nil {
			d.logger.Error("Listing the interfaces failed", "err", err)
		}
	}
}

// list calls a netlink dump again when the kernel says that it changed meanwhile.
func list[T any](dump func() ([]T, error)) ([]T, error) {
	for range 5 {
		all, err := dump()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return dump()
}
