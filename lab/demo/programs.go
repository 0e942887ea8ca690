package demo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/netns"
)

// Where the children listen, in the namespace of the demo: the exporters at
// every tenth port from the first, the aggregator at its usual one, and where
// a port is taken at another.
const (
	loopback            = "127.0.0.1"
	firstExporterPort   = 10017
	exporterPortStep    = 10
	firstAggregatorPort = 8080
)

// startExporters starts an exporter in each host's namespace. Its listening
// socket comes from here, so that it is scraped on the loopback device outside
// and nothing but the lab's traffic crosses the lab's devices.
func (d *demo) startExporters() error {
	keyFile, err := d.writeKey()
	if err != nil {
		return err
	}
	for position, host := range d.network.HostNames() {
		config, err := d.write(host+".yml", d.exporterConfiguration(host, keyFile))
		if err != nil {
			return err
		}
		socket, address, err := listenNear(firstExporterPort + position*exporterPortStep)
		if err != nil {
			return err
		}
		cmd := exec.Command(d.configuration.program(exporterProgram), "--config.file="+config, "--web.systemd-socket")
		netns.PassListeners(cmd, socket)
		err = d.start(exporterProgram+" on "+host, d.network.Namespace(host), cmd)
		socket.Close()
		if err != nil {
			return err
		}
		d.exporters = append(d.exporters, endpoint{host, address})
	}
	return nil
}

// listenNear listens on the port, or on any that is free if it is taken.
func listenNear(port int) (*os.File, string, error) {
	socket, address, err := netns.Listen(net.JoinHostPort(loopback, strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		socket, address, err = netns.Listen(net.JoinHostPort(loopback, "0"))
	}
	if err != nil {
		return nil, "", err
	}
	return socket, address.String(), nil
}

// writeKey writes the fleet's secret: sketches of hosts with different keys
// can't be merged.
func (d *demo) writeKey() (path string, err error) {
	key := make([]byte, 16)
	rand.Read(key)
	return d.write("fleet.key", hex.EncodeToString(key)+"\n")
}

func (d *demo) exporterConfiguration(host, keyFile string) string {
	fleet := make([]string, 0, 4)
	for _, p := range d.configuration.Network.Fleet() {
		fleet = append(fleet, strconv.Quote(p.String()))
	}
	return fmt.Sprintf("capture:\n  fleet: [%s]\nepochs:\n  host: %s\nsketch:\n  key_file: %s\n",
		strings.Join(fleet, ", "), host, strconv.Quote(keyFile))
}

func (d *demo) startAggregator() error {
	config, err := d.write("aggregator.yml", aggregatorConfiguration(d.exporters))
	if err != nil {
		return err
	}
	// The port is free again between here and the aggregator's start, which
	// fails in plain words if another program was quicker.
	socket, address, err := listenNear(firstAggregatorPort)
	if err != nil {
		return err
	}
	socket.Close()
	d.aggregator = endpoint{aggregatorProgram, address}
	cmd := exec.Command(d.configuration.program(aggregatorProgram), "--config.file="+config, "--web.listen-address="+address)
	return d.start(aggregatorProgram, d.home, cmd)
}

func aggregatorConfiguration(exporters []endpoint) string {
	targets := make([]string, len(exporters))
	for i, e := range exporters {
		targets[i] = strconv.Quote(e.address)
	}
	return "scrape_configs:\n  - job_name: lab\n    static_configs:\n      - targets: [" + strings.Join(targets, ", ") + "]\n"
}

// The demo's traffic, by host.
const (
	trafficRate  = 2000 // packets a second
	trafficFlows = 300
	// trafficMargin is how much longer than the demo the generators would run:
	// they are stopped with it, and if it is killed they end soon.
	trafficMargin = 10 * time.Minute
)

// startTraffic starts normal traffic from each host to all others.
func (d *demo) startTraffic() error {
	for position, host := range d.network.HostNames() {
		args := []string{
			"--mode=normal", "--seed=" + strconv.Itoa(position+1),
			"--rate=" + strconv.Itoa(trafficRate), "--flows=" + strconv.Itoa(trafficFlows),
			"--packets=" + strconv.Itoa(d.trafficPackets()),
		}
		for _, address := range d.network.Host(host).Addresses() {
			args = append(args, "--source="+address.String())
		}
		for _, address := range d.addressesOfOthers(host) {
			args = append(args, "--destination="+address.String())
		}
		cmd := exec.Command(d.configuration.program(trafficProgram), args...)
		if err := d.start(trafficProgram+" on "+host, d.network.Namespace(host), cmd); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) trafficPackets() int {
	return int(trafficRate * (d.configuration.Duration + trafficMargin).Seconds())
}

func (d *demo) addressesOfOthers(host string) []netip.Addr {
	var addresses []netip.Addr
	for _, other := range d.network.HostNames() {
		if other != host {
			addresses = append(addresses, d.network.Host(other).Addresses()...)
		}
	}
	return addresses
}

// readyWithin is how long children may take until they answer.
const readyWithin = 15 * time.Second

// waitReady waits until every child that serves HTTP answers its readiness
// check, and fails at once if one has ended.
func (d *demo) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	endpoints := d.exporters
	if d.aggregator.address != "" {
		endpoints = append(endpoints[:len(endpoints):len(endpoints)], d.aggregator)
	}
	for _, e := range endpoints {
		for !isReady(ctx, e) {
			if err := d.checkChildren(); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return fmt.Errorf("%s isn't ready at http://%s/-/ready after %v", e.name, e.address, readyWithin)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

func isReady(ctx context.Context, e endpoint) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.address+"/-/ready", nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}
