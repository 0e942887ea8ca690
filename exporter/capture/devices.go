package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/fold"
)

// restEpochs is for how many epochs the number of a device that is gone isn't
// given to another one: until all that was counted under it is booked.
const restEpochs = 4

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
	hooks  []hook // by direction; none while they are attached
	gone   int    // epochs since it went; 0: it is there
}

// devices keeps the program attached to the matching interfaces of the network
// namespace, and knows the host's addresses.
type devices struct {
	kernel *kernel
	pinned *pinned // nil without a pin path
	logger *slog.Logger

	syncing  sync.Mutex // held while hooks change; never taken under mu
	mu       sync.Mutex // of what is below
	config   Config
	byIndex  map[int]*device
	byNumber []*device // nil: free
	networks []netip.Prefix
	failed   map[string]bool // devices whose failure to attach was logged
	synced   bool            // attached to all devices that there were at first
	ended    bool            // nothing is attached any more
}

// newDevices knows, as gone ones, the devices of an earlier run that is taken over.
func newDevices(k *kernel, config Config, p *pinned, logger *slog.Logger) *devices {
	d := &devices{
		kernel:   k,
		pinned:   p,
		config:   config,
		logger:   logger,
		byIndex:  map[int]*device{},
		byNumber: make([]*device, k.layout.Devices),
		failed:   map[string]bool{},
	}
	if p != nil {
		for _, r := range p.current.journal.recorded() {
			d.byNumber[r.number] = r
		}
	}
	return d
}

// run attaches to the interfaces that there are, follows changes until the context
// ends, and detaches.
func (d *devices) run(ctx context.Context) error {
	events, err := subscribe(ctx)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, d.end)
	if err = d.sync(); err == nil {
		d.follow(ctx, events)
	}
	d.detach()
	return err
}

// end makes a sync that is under way the last one.
func (d *devices) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
}

// sync attaches to matching interfaces that are new, forgets those that are gone,
// and reads the host's networks. Each hook costs the kernel an RCU grace period or
// two, about 15 ms: the mutex isn't held meanwhile, the end of an epoch needs it.
func (d *devices) sync() error {
	d.syncing.Lock()
	defer d.syncing.Unlock()
	links, err := list(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("list the interfaces: %w", err)
	}
	networks, err := localNetworks(links)
	if err != nil {
		return err
	}
	d.setNetworks(networks)
	present := map[int]bool{}
	for _, l := range links {
		if d.matches(l) {
			present[l.Attrs().Index] = true
		}
	}
	d.forgetIf(func(known *device) bool { return !present[known.index] || !known.attached() })
	for _, l := range links {
		if present[l.Attrs().Index] {
			d.ensure(l)
		}
	}
	d.afterSync()
	return nil
}

// afterSync ends what is left of an earlier run, when it is known what isn't wanted
// of that.
func (d *devices) afterSync() {
	d.mu.Lock()
	first := !d.synced && !d.ended
	d.synced = d.synced || first
	d.mu.Unlock()
	if first {
		d.prune()
	}
}

// forgetIf forgets the devices for which the condition holds.
func (d *devices) forgetIf(condition func(*device) bool) {
	for _, known := range d.known() {
		if condition(known) {
			d.forget(known)
		}
	}
}

// known returns the devices that are there.
func (d *devices) known() []*device {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Values(d.byIndex))
}

// matches says whether an interface is meant by the configuration.
func (d *devices) matches(l netlink.Link) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
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
	device, isNew := d.register(l)
	if !isNew {
		return
	}
	hooks, err := d.attach(device)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.unregister(device)
		if !d.failed[device.name] {
			d.failed[device.name] = true
			d.logger.Error("Attaching failed", "device", device.name, "err", err)
		}
		return
	}
	delete(d.failed, device.name)
	device.hooks = hooks
	d.logger.Info("Attached", "device", device.name, "hook", hooks[0].kind())
}

// register gives a device that is new a number, and one that isn't its new name.
// At the end nothing is new.
func (d *devices) register(l netlink.Link) (known *device, isNew bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	attributes := l.Attrs()
	if known := d.byIndex[attributes.Index]; known != nil {
		d.rename(known, attributes.Name)
		return known, false
	}
	if d.ended {
		return nil, false
	}
	if known = d.returned(attributes.Index); known == nil {
		known = &device{index: attributes.Index, number: d.freeNumber()}
	}
	known.name, known.kind, known.layer3, known.gone = attributes.Name, l.Type(), isLayer3(l), 0
	d.byIndex[known.index] = known
	d.take(known)
	return known, true
}

// returned returns the device with an index that went, or that an earlier run knew,
// and still has its number.
func (d *devices) returned(index int) *device {
	for _, known := range d.byNumber {
		if known != nil && known.index == index {
			return known
		}
	}
	return nil
}

// take gives a device its number, on record too.
func (d *devices) take(device *device) {
	if device.number == 0 {
		return
	}
	d.byNumber[device.number] = device
	if d.pinned != nil {
		d.pinned.current.journal.record(device)
	}
}

func (d *devices) rename(device *device, name string) {
	if device.name != name {
		device.name = name
		d.take(device)
	}
}

// unregister forgets a device of which nothing was counted for long.
func (d *devices) unregister(device *device) {
	delete(d.byIndex, device.index)
	device.gone = 1
}

// attach announces the device to the program, then attaches it in both directions.
func (d *devices) attach(device *device) ([]hook, error) {
	if err := d.kernel.announce(device); err != nil {
		return nil, err
	}
	programs := [...]*ebpf.Program{
		flow.Ingress: d.kernel.objects.CaptureIngress,
		flow.Egress:  d.kernel.objects.CaptureEgress,
	}
	var hooks []hook
	for direction, program := range programs {
		h, err := attachHook(program, device.index, flow.Direction(direction), d.config.clsact, d.pinPath())
		if err != nil {
			return nil, errors.Join(err, closeHooks(hooks))
		}
		hooks = append(hooks, h)
	}
	return hooks, nil
}

// pinPath returns where links are pinned, nil for nowhere.
func (d *devices) pinPath() *pins {
	if d.pinned == nil {
		return nil
	}
	return d.pinned.pins
}

// attached tells whether the programs still see the packets of the device.
func (d *device) attached() bool {
	return !slices.ContainsFunc(d.hooks, func(h hook) bool { return !h.attached(d.index) })
}

func closeHooks(hooks []hook) error {
	var all []error
	for _, h := range hooks {
		all = append(all, h.Close())
	}
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
	d.mu.Lock()
	hooks := device.hooks
	device.hooks = nil
	d.unregister(device)
	d.mu.Unlock()
	if err := closeHooks(hooks); err != nil {
		d.logger.Warn("Detaching failed", "device", device.name, "err", err)
	}
	d.logger.Info("Detached", "device", device.name)
}

// detach ends the capture on all interfaces; their names stay. With a pin path the
// kernel counts on for the next run.
func (d *devices) detach() {
	d.end()
	d.syncing.Lock()
	defer d.syncing.Unlock()
	if d.pinned != nil {
		d.keep()
		return
	}
	d.forgetIf(func(*device) bool { return true })
}

// keep gives all hooks up and leaves them attached.
func (d *devices) keep() {
	for _, known := range d.known() {
		d.mu.Lock()
		hooks := known.hooks
		known.hooks = nil
		d.mu.Unlock()
		for _, h := range hooks {
			if err := h.keep(); err != nil {
				d.logger.Warn("Giving up a hook failed", "device", known.name, "err", err)
			}
		}
	}
}

// reload makes the patterns and networks of a configuration those that count, and
// attaches and detaches accordingly. Devices that match before and after stay as
// they are.
func (d *devices) reload(config Config) error {
	before := d.setPatterns(config)
	err := d.sync()
	if err != nil {
		d.setPatterns(before)
	}
	return err
}

// setPatterns returns those that there were.
func (d *devices) setPatterns(config Config) (before Config) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before = d.config
	d.config.Include, d.config.Exclude, d.config.Layer3 = config.Include, config.Exclude, config.Layer3
	d.config.Fleet = config.Fleet
	return before
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
	if device == nil || device.gone == 0 || !d.synced {
		return
	}
	if device.gone++; device.gone > restEpochs {
		d.byNumber[number] = nil
		if d.pinned != nil {
			d.pinned.current.journal.erase(number)
		}
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
