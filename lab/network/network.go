package network

import (
	"errors"
	"fmt"
	"strings"

	"github.com/traffic-monitor-agent/tma/internal/netns"
)

// Network is a lab that is up.
type Network struct {
	configuration Configuration
	namespaces    map[string]*netns.Namespace // by zone or host name
}

// ErrInUse is Up's and Down's error where a lab of that prefix is up and
// processes run in it.
var ErrInUse = errors.New("the lab network is in use")

// Up builds the network. It is all or nothing: on an error what was built is
// taken down again. What a killed run left behind under the same names is
// removed first, unless processes run in it.
func Up(c Configuration) (*Network, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if err := Down(c); err != nil {
		return nil, err
	}
	n := &Network{configuration: c, namespaces: map[string]*netns.Namespace{}}
	if err := n.build(); err != nil {
		return nil, errors.Join(err, n.Down())
	}
	return n, nil
}

// Down removes the namespaces that Up made under the configuration's prefix,
// by this program or another, and all that is in them. It is no error if there
// are none; it is one, and nothing is removed, if processes run inside.
func Down(c Configuration) error {
	if c.Prefix == "" {
		return nil
	}
	if err := c.checkIdle(); err != nil {
		return err
	}
	var failed []error
	for _, name := range c.names() {
		failed = append(failed, netns.Remove(c.Prefix+name))
	}
	return errors.Join(failed...)
}

// checkIdle returns ErrInUse if processes run in a namespace of the lab.
func (c Configuration) checkIdle() error {
	for _, name := range c.names() {
		if !netns.Exists(c.Prefix + name) {
			continue
		}
		space, err := netns.Open(c.Prefix + name)
		if err != nil {
			return err
		}
		pids, err := space.Processes()
		space.Close()
		if err != nil {
			return err
		}
		if len(pids) > 0 {
			return fmt.Errorf("%w: processes %s run in %s", ErrInUse, strings.Trim(fmt.Sprint(pids), "[]"), space.Name())
		}
	}
	return nil
}

// Down removes the network. Processes must have ended before: one that hasn't
// keeps its namespace, though without a name and cut off from the others.
func (n *Network) Down() error {
	var failed []error
	for name, space := range n.namespaces {
		if n.configuration.Prefix != "" {
			failed = append(failed, netns.Remove(space.Name()))
		}
		failed = append(failed, space.Close())
		delete(n.namespaces, name)
	}
	return errors.Join(failed...)
}

// Configuration returns what the network was built from.
func (n *Network) Configuration() Configuration { return n.configuration }

// Namespace returns the namespace of a host, or of a zone's switch. It panics
// on a name that the configuration doesn't have.
func (n *Network) Namespace(name string) *netns.Namespace {
	space, ok := n.namespaces[name]
	if !ok {
		panic("network: no host or zone named " + name)
	}
	return space
}

// Host returns the configuration of a host. It panics on a name that the
// configuration doesn't have.
func (n *Network) Host(name string) Host {
	h, ok := n.configuration.host(name)
	if !ok {
		panic("network: no host named " + name)
	}
	return h
}

// HostNames lists the hosts in the configuration's order.
func (n *Network) HostNames() []string {
	names := make([]string, len(n.configuration.Hosts))
	for i, h := range n.configuration.Hosts {
		names[i] = h.Name
	}
	return names
}

func (n *Network) build() error {
	for _, name := range n.configuration.names() {
		if err := n.addNamespace(name); err != nil {
			return err
		}
	}
	for _, z := range n.configuration.Zones {
		if err := n.buildZone(z); err != nil {
			return fmt.Errorf("build %s: %w", z.Name, err)
		}
	}
	for _, h := range n.configuration.Hosts {
		if err := n.Namespace(h.Name).Do(func() error { return n.buildHost(h) }); err != nil {
			return fmt.Errorf("build %s: %w", h.Name, err)
		}
	}
	for _, name := range n.configuration.names() {
		if err := n.Namespace(name).Do(waitQuiet); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (n *Network) addNamespace(name string) error {
	space, err := newNamespace(n.configuration.Prefix, name)
	if err != nil {
		return err
	}
	n.namespaces[name] = space
	return space.Do(setQuiet)
}

func newNamespace(prefix, name string) (*netns.Namespace, error) {
	if prefix == "" {
		return netns.New()
	}
	return netns.NewNamed(prefix + name)
}
