package main

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/siphash"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
)

// Connections that a host has at a time: each is two flows. So a host lists
// flowsPerHost, of which 30 % are another host's to count.
const (
	asClient, asServer, outside = 150, 150, 200

	flowsPerHost = 2 * (asClient + asServer + outside)
)

const (
	// outsideAddresses is how many peers outside of the fleet there are; they are
	// popular as Zipf says.
	outsideAddresses = 200_000
	zipfExponent     = 1.2
	// persistent is one in how many connections that goes on from second to second;
	// the others are new ones.
	persistent = 2
)

// traffic is what the hosts of a fleet send each other and the world. Equal seconds
// are equal traffic, so that all hosts agree on it.
type traffic struct{ hosts int }

// connection is one from a client to a server, with what both ends send.
type connection struct {
	key      flow.Key
	out, in  epoch.Count
	incoming bool // the host is the server
}

// epoch returns what a host saw in a second, without its time.
func (t *traffic) epoch(host int, second uint64) *epoch.Epoch {
	e := &epoch.Epoch{
		Host: hostAddress(host).String(), Start: time.Unix(0, 0), End: time.Unix(0, 0),
		LocalNetworks: localNetworks(host), Flows: make([]epoch.Flow, 0, flowsPerHost),
	}
	for _, c := range t.connections(host, second) {
		back := flow.Key{
			Source: c.key.Destination, Destination: c.key.Source, Protocol: c.key.Protocol,
			SourcePort: c.key.DestinationPort, DestinationPort: c.key.SourcePort,
		}
		sent, received := flow.Egress, flow.Ingress
		if c.incoming {
			sent, received = received, sent
		}
		e.Flows = append(e.Flows, epoch.Flow{Key: c.key, Direction: sent, Count: c.out}, epoch.Flow{Key: back, Direction: received, Count: c.in})
	}
	var devices [2]epoch.Device
	for i := range devices {
		devices[i] = epoch.Device{Name: "eth0", Direction: flow.Direction(i)}
	}
	for i := range e.Flows {
		devices[e.Flows[i].Direction].Total.Add(e.Flows[i].Count)
	}
	e.Devices, e.Sketches = devices[:], sketches(e.Flows)
	return e
}

// connections lists those of a host. Each host is as many others' server as they are
// its: clients and servers are as many hosts apart as the number of the connection
// says.
func (t *traffic) connections(host int, second uint64) []connection {
	all := make([]connection, 0, flowsPerHost/2)
	for n := range asClient {
		distance := 1 + n*(t.hosts-1)/asClient
		all = append(all, t.between(host, (host+distance)%t.hosts, n, second))
		c := t.between((host+t.hosts-distance)%t.hosts, host, n, second)
		c.incoming = true
		all = append(all, c)
	}
	for n := range outside {
		all = append(all, t.toOutside(host, n, second))
	}
	return all
}

// random is the same for the same connection in the same second, or in all of them.
func random(client, peer, n int, second uint64) *rand.Rand {
	return rand.New(rand.NewPCG(uint64(client)<<32|uint64(peer), uint64(n)<<32|second))
}

// between is the connection of a number between two hosts of the fleet.
func (t *traffic) between(client, server, n int, second uint64) connection {
	return newConnection(hostAddress(client), hostAddress(server), client, server, n, second)
}

// toOutside is one with the world. The number of the peer is beyond those of hosts.
func (t *traffic) toOutside(host, n int, second uint64) connection {
	const world = 1 << 20
	at := second
	if n%persistent == 0 {
		at = 0
	}
	peer := rand.NewZipf(random(host, world, n, at), zipfExponent, 10, outsideAddresses-1).Uint64()
	if n%10 == 0 {
		return newConnection(hostAddress6(host), outsideAddress6(peer), host, world, n, second)
	}
	return newConnection(hostAddress(host), outsideAddress(peer), host, world, n, second)
}

func newConnection(from, to netip.Addr, client, peer, n int, second uint64) connection {
	identity := second
	if n%persistent == 0 {
		identity = 0
	}
	// No two connections of a client have the same port.
	port := uint16(32768 + 100*n + random(client, peer, n, identity).IntN(100))
	services := [...]uint16{443, 443, 443, 80, 53, 5432, 6379, 9092}
	c := connection{key: flow.Key{
		Source: from.As16(), Destination: to.As16(),
		SourcePort: port, DestinationPort: services[n%len(services)], Protocol: flow.ProtocolTCP,
	}}
	sizes := rand.NewZipf(random(client, peer, n, second+1), zipfExponent, 1, 10_000)
	c.out, c.in = packets(1+sizes.Uint64(), 120), packets(1+sizes.Uint64(), 1200)
	return c
}

func packets(n, size uint64) epoch.Count { return epoch.Count{Packets: n, Bytes: n * size} }

func hostAddress(host int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(host >> 14), byte(host>>6) & 0xff, byte(host&63) + 1})
}

func hostAddress6(host int) netip.Addr {
	a := [16]byte{0: 0xfd, 15: 1}
	binary.BigEndian.PutUint32(a[4:], uint32(host))
	return netip.AddrFrom16(a)
}

func localNetworks(host int) []netip.Prefix {
	return []netip.Prefix{netip.PrefixFrom(hostAddress(host), 32), netip.PrefixFrom(hostAddress6(host), 128)}
}

// outsideAddress spreads peers over 64.0.0.0/2: the multiplier is odd, so that no two
// are the same.
func outsideAddress(peer uint64) netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], uint32(peer*2654435761)&(1<<30-1)|1<<30)
	return netip.AddrFrom4(a)
}

func outsideAddress6(peer uint64) netip.Addr {
	a := [16]byte{0: 0x20, 1: 1}
	binary.BigEndian.PutUint32(a[2:], uint32(peer*2654435761))
	a[15] = byte(peer)
	return netip.AddrFrom16(a)
}

// sketches count flows, their ends and their ports, as exporters do (package fold).
func sketches(flows []epoch.Flow) []epoch.Sketch {
	var key siphash.Key
	all := []epoch.Sketch{{Of: epoch.OfFlows}, {Of: epoch.OfSources}, {Of: epoch.OfDestinations}, {Of: epoch.OfDestinationPorts}}
	for i := range all {
		all[i].KeyFingerprint, all[i].HLL = key.Fingerprint(), &hll.Sketch{}
	}
	var canonical [flow.KeyLen]byte
	for i := range flows {
		flows[i].Canonical(&canonical)
		for j, part := range [][]byte{canonical[:], canonical[0:16], canonical[16:32], canonical[34:38]} {
			all[j].HLL.Insert(key.Sum(part))
		}
	}
	return all
}

// counted are the bytes of an epoch that its host has to count: those that another
// host of the fleet sent are that one's.
func counted(e *epoch.Epoch) (bytes uint64) {
	for i := range e.Flows {
		f := &e.Flows[i]
		if f.Direction == flow.Egress || !inFleet(f.Source) {
			bytes += f.Bytes
		}
	}
	return bytes
}

// inFleet says whether an address is a host's. Over IPv6 hosts only talk to the world.
func inFleet(address [16]byte) bool {
	a := netip.AddrFrom16(address).Unmap()
	return a.Is4() && a.As4()[0] == 10
}
