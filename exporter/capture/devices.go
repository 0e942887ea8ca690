package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/fold"
)

const (
	// resyncInterval is how often the interfaces are listed without an event, in
	// case one was lost.
	resyncInterval = 10 * time.Second
	// settleInterval is how long events are gathered before the interfaces are
	// listed: many come at a time.
	settleInterval = 20 * time.Millisecond
	// restEpochs is for how many epochs the number of a device that is gone isn't
	// given to another one: until all that was counted under it is booked.
	restEpochs = 4
)

// unknownDevice is the name of number 0: devices beyond Layout.Devices.
const unknownDevice = "other"

// Attachment is one hook of the program.
type Attachment struct {
	Device    string
	Direction flow.Direction
	Hook      string // tcx or clsact
}

// device is an interface that is, or was, captured from.
type device struct {
	name   string
	index  int // the kernel's
	number int // its points are twice this, and one more
	kind   string
	layer3 bool   // its packets begin with the IP header
	hooks  []hook // by direction
	gone   int    // epochs since it went; 0: it is there
}

// devices keeps the program attached to the matching interfaces of the network
// namespace, and knows the host's addresses.
type devices struct {
	kernel *kernel
	config Config
	logger *slog.Logger
	done   sync.WaitGroup

	mu       sync.Mutex
	byIndex  map[int]*device
	byNumber []*device // nil: free
	networks []netip.Prefix
	failed   map[string]bool // devices whose failure to attach was logged
}

func newDevices(k *kernel, config Config, logger *slog.Logger) *devices {
	return &devices{
		kernel:   k,
		config:   config,
		logger:   logger,
		byIndex:  map[int]*device{},
		byNumber: make([]*device, k.layout.Devices),
		failed:   map[string]bool{},
	}
}

// start attaches to the interfaces that there are and follows changes until the
// context ends.
func (d *devices) start(ctx context.Context) error {
	events, err := subscribe(ctx)
	if err != nil {
		return err
	}
	if err := d.sync(); err != nil {
		return err
	}
	d.done.Go(func() { d.follow(ctx, events) })
	return nil
}

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

// sync attaches to matching interfaces that are new, forgets those that are gone,
// and reads the host's addresses.
func (d *devices) sync() error {
	links, err := list(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("list the interfaces: %w", err)
	}
	routes, err := list(localRoutes)
	if err != nil {
		return fmt.Errorf("list the local addresses: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.networks = localNetworks(routes)
	present := map[int]bool{}
	for _, l := range links {
		if d.matches(l) {
			present[l.Attrs().Index] = true
			d.ensure(l)
		}
	}
	for index, device := range d.byIndex {
		if !present[index] {
			d.forget(device)
		}
	}
	return nil
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

// matches says whether an interface is meant by the configuration.
func (d *devices) matches(l netlink.Link) bool {
	attributes := l.Attrs()
	if !d.config.takesLayer(l) {
		return false
	}
	if d.config.Include != nil && !d.config.Include.MatchString(attributes.Name) {
		return false
	}
	return d.config.Exclude == nil || !d.config.Exclude.MatchString(attributes.Name)
}

// ensure attaches to an interface unless that is done, and takes on its name.
func (d *devices) ensure(l netlink.Link) {
	attributes := l.Attrs()
	if known := d.byIndex[attributes.Index]; known != nil {
		known.name = attributes.Name
		return
	}
	device := &device{name: attributes.Name, index: attributes.Index, kind: l.Type(), number: d.freeNumber(), layer3: isLayer3(l)}
	if err := d.attach(device); err != nil {
		if !d.failed[device.name] {
			d.failed[device.name] = true
			d.logger.Error("Attaching failed", "device", device.name, "err", err)
		}
		return
	}
	delete(d.failed, device.name)
	d.byIndex[device.index] = device
	if device.number != 0 {
		d.byNumber[device.number] = device
	}
	d.logger.Info("Attached", "device", device.name, "hook", device.hooks[0].kind())
}

// attach announces the device to the program, then attaches it in both directions.
func (d *devices) attach(device *device) error {
	if err := d.kernel.announce(device); err != nil {
		return err
	}
	programs := [...]*ebpf.Program{
		flow.Ingress: d.kernel.objects.CaptureIngress,
		flow.Egress:  d.kernel.objects.CaptureEgress,
	}
	for direction, program := range programs {
		h, err := attachHook(program, device.index, flow.Direction(direction), d.config.clsact)
		if err != nil {
			return errors.Join(err, device.detach())
		}
		device.hooks = append(device.hooks, h)
	}
	return nil
}

func (d *device) detach() error {
	var all []error
	for _, h := range d.hooks {
		all = append(all, h.Close())
	}
	d.hooks = nil
	return errors.Join(all...)
}

// freeNumber returns a number that no device has, or 0 if all are taken.
func (d *devices) freeNumber() int {
	for number := 1; number < len(d.byNumber); number++ {
		if d.byNumber[number] == nil {
			return number
		}
	}
	return 0
}

// forget detaches from an interface that went or doesn't match any more. Its name
// stays for what was counted there.
func (d *devices) forget(device *device) {
	if err := device.detach(); err != nil {
		d.logger.Warn("Detaching failed", "device", device.name, "err", err)
	}
	delete(d.byIndex, device.index)
	device.gone = 1
	d.logger.Info("Detached", "device", device.name)
}

// detach ends the capture on all interfaces; their names stay.
func (d *devices) detach() {
	d.done.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, device := range d.byIndex {
		d.forget(device)
	}
}

func (d *devices) close() error {
	d.detach()
	return nil
}

func (d *devices) attachments() []Attachment {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []Attachment
	for _, device := range d.byIndex {
		for direction, h := range device.hooks {
			all = append(all, Attachment{Device: device.name, Direction: flow.Direction(direction), Hook: h.kind()})
		}
	}
	return all
}

// rank is how good a place a device is to count a flow that several see: what is
// nearest to the wire.
func (d *device) rank() uint8 {
	switch d.kind {
	case "device":
		return 0
	case "vlan", "macvlan", "ipvlan":
		return 1
	case "bond", "team":
		return 2
	case "bridge", "openvswitch":
		return 3
	case "veth":
		return 4
	}
	return 2
}

// prepare tells the ledger what it has to know at the end of an epoch.
func (d *devices) prepare(ledger *fold.Ledger) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ledger.SetClassifier(fold.Classifier{Local: d.networks, Fleet: d.config.Fleet})
	for number, device := range d.byNumber {
		if device != nil {
			ledger.SetRank(uint16(2*number), device.rank())
			ledger.SetRank(uint16(2*number+1), device.rank())
		}
	}
}

// report names what was counted at each point, and frees the numbers of devices
// that went some epochs ago. Devices that are there are reported without traffic
// too.
func (d *devices) report(points []pointTotals, duplicates []epoch.Count) []epoch.Device {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []epoch.Device
	for number, device := range d.byNumber {
		for _, direction := range []flow.Direction{flow.Ingress, flow.Egress} {
			point := 2*number + int(direction)
			t := &points[point]
			if device == nil && t.total == (epoch.Count{}) && duplicates[point] == (epoch.Count{}) {
				continue
			}
			all = append(all, t.report(deviceName(device), direction, duplicates[point]))
		}
		d.age(number)
	}
	return all
}

func deviceName(d *device) string {
	if d == nil {
		return unknownDevice
	}
	return d.name
}

// age counts the epochs since a device went.
func (d *devices) age(number int) {
	device := d.byNumber[number]
	if device == nil || device.gone == 0 {
		return
	}
	if device.gone++; device.gone > restEpochs {
		d.byNumber[number] = nil
	}
}

func (t *pointTotals) report(name string, direction flow.Direction, duplicate epoch.Count) epoch.Device {
	device := epoch.Device{Name: name, Direction: direction, Total: t.total, Duplicate: duplicate, Remainder: t.remainder}
	for i, reason := range reasons {
		if reason != "" {
			device.Others = append(device.Others, epoch.Reason{Reason: reason, Count: t.others[i]})
		}
	}
	return device
}
