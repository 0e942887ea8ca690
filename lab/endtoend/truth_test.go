package endtoend

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/vishvananda/netlink"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
	"github.com/traffic-monitor-agent/tma/lab/traffic"
)

const (
	packets = 200_000
	flows   = 5_000
)

// truth is what was sent, by the host that sent it.
type truth map[string]map[flow.Key]epoch.Count

// all merges what the hosts sent.
func (tr truth) all() map[flow.Key]epoch.Count {
	sum := map[flow.Key]epoch.Count{}
	for _, sent := range tr {
		for key, c := range sent {
			merged := sum[key]
			merged.Add(c)
			sum[key] = merged
		}
	}
	return sum
}

// prefixes are those from which the generators draw a host's addresses.
func (f *fleet) prefixes(host string) []netip.Prefix {
	var list []netip.Prefix
	for _, address := range f.network.Host(host).Addresses() {
		list = append(list, netip.PrefixFrom(address, address.BitLen()))
	}
	return list
}

// send makes every host send its share of some packets and flows to all others, at
// once.
func (f *fleet) send(t *testing.T, packets, flows int) truth {
	t.Helper()
	var mu sync.Mutex
	var group sync.WaitGroup
	sent := truth{}
	hosts := f.network.HostNames()
	for i, host := range hosts {
		c := traffic.DefaultConfiguration()
		c.Seed = uint64(i + 1)
		c.Packets, c.Flows, c.Rate = uint64(packets/len(hosts)), flows/len(hosts), 15_000
		c.UDPShare, c.IPv6Share = 0.5, 0.4
		c.Distribution = traffic.Distribution{Kind: traffic.Zipf, Exponent: 1.1}
		c.Sources = f.prefixes(host)
		for _, other := range hosts {
			if other != host {
				c.Destinations = append(c.Destinations, f.prefixes(other)...)
			}
		}
		generator, err := traffic.New(c)
		must(t, err)
		group.Go(func() {
			err := f.network.Namespace(host).Do(func() error {
				result, err := generator.Run(context.Background())
				if err == nil && (result.Packets != c.Packets || result.Refused != 0) {
					return fmt.Errorf("%s sent %+v", host, result)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
			counts := map[flow.Key]epoch.Count{}
			for _, fl := range generator.Flows() {
				counts[fl.Key] = epoch.Count{Packets: fl.Packets, Bytes: fl.Bytes}
			}
			mu.Lock()
			defer mu.Unlock()
			sent[host] = counts
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return sent
}

// counters are the kernel's own of every device of a host.
func (f *fleet) counters(t *testing.T, host string) map[string]epoch.Count {
	t.Helper()
	counters := map[string]epoch.Count{}
	must(t, f.network.Namespace(host).Do(func() error {
		links, err := netlink.LinkList()
		for _, l := range links {
			if s := l.Attrs().Statistics; l.Attrs().EncapType == "ether" {
				counters[l.Attrs().Name+" ingress"] = epoch.Count{Packets: s.RxPackets, Bytes: s.RxBytes}
				counters[l.Attrs().Name+" egress"] = epoch.Count{Packets: s.TxPackets, Bytes: s.TxBytes}
			}
		}
		return err
	}))
	return counters
}

// seen is what an exporter handed out over all its epochs.
type seen struct {
	flows    map[flow.Key]epoch.Count
	devices  map[string]epoch.Count
	first    time.Time
	sequence uint64
}

// epochs reads all epochs of an exporter that it has ended so far.
func (s *server) epochs(t *testing.T) seen {
	t.Helper()
	sum := seen{flows: map[flow.Key]epoch.Count{}, devices: map[string]epoch.Count{}}
	for {
		batch := s.batch(t, sum.sequence)
		for _, e := range batch.Epochs {
			if e.Sequence != sum.sequence+1 {
				t.Fatalf("epoch %d follows %d", e.Sequence, sum.sequence)
			}
			sum.sequence = e.Sequence
			sum.add(e)
		}
		if sum.sequence == batch.Newest {
			return sum
		}
	}
}

func (s *seen) add(e *epoch.Epoch) {
	if s.first.IsZero() {
		s.first = e.Start
	}
	for i := range e.Flows {
		c := s.flows[e.Flows[i].Key]
		c.Add(e.Flows[i].Count)
		s.flows[e.Flows[i].Key] = c
	}
	for i := range e.Devices {
		key := e.Devices[i].Name + " " + e.Devices[i].Direction.String()
		c := s.devices[key]
		c.Add(e.Devices[i].Total)
		s.devices[key] = c
	}
}

func (s *server) batch(t *testing.T, after uint64) *epoch.Batch {
	t.Helper()
	response, err := http.Get(fmt.Sprintf("%s/v1/epochs?after=%d&wait=0s", s.url, after))
	must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", response.Status, body)
	}
	batch, err := epoch.DecodeBatch(body)
	must(t, err)
	return batch
}

// settle waits until every exporter has handed all that was sent to the
// aggregator: two epochs that began after the last packet.
func (f *fleet) settle(t *testing.T) {
	t.Helper()
	f.waitForEpochs(t, time.Now().Add(time.Second))
}

// waitForEpochs waits until the aggregator has an epoch of each exporter that ended
// after a time.
func (f *fleet) waitForEpochs(t *testing.T, after time.Time) {
	t.Helper()
	testutil.Eventually(t, 10*time.Second, "the aggregator has every exporter's next epochs", func() bool {
		var answer struct {
			Exporters []struct {
				LastEpoch time.Time `json:"last_epoch"`
			}
		}
		f.get(t, "/v1/exporters", &answer)
		return !slices.ContainsFunc(answer.Exporters, func(e struct {
			LastEpoch time.Time `json:"last_epoch"`
		}) bool {
			return !e.LastEpoch.After(after)
		})
	})
}

// path lists the hosts that a flow crosses: its source's, its destination's and,
// from zone to zone, the gateway.
func (f *fleet) path(key flow.Key) []string {
	source, destination := f.hostOf(key.SourceAddr()), f.hostOf(key.DestinationAddr())
	path := []string{source, destination}
	zone := func(host string) string { return f.network.Host(host).Interfaces[0].Zone }
	if zone(source) != zone(destination) && !slices.Contains(path, "host-a") && source != "host-a" {
		path = append(path, "host-a")
	}
	return path
}

func (f *fleet) hostOf(address netip.Addr) string {
	for _, host := range f.network.HostNames() {
		if slices.Contains(f.network.Host(host).Addresses(), address) {
			return host
		}
	}
	panic("no host has " + address.String())
}

// 200,000 packets of 5,000 flows: exact in every exporter that they cross, exact
// by device, counted once by the aggregator, and the heavy prefixes those of the
// definition.
func TestEndToEnd(t *testing.T) {
	f := newFleet(t)
	before := map[string]map[string]epoch.Count{}
	for host := range f.exporters {
		before[host] = f.counters(t, host)
	}
	sent := f.send(t, packets, flows)
	f.settle(t)
	all := sent.all()
	if len(all) != flows {
		t.Fatalf("%d distinct flows were sent, want %d", len(all), flows)
	}
	from := time.Now()
	for host, exporter := range f.exporters {
		got := exporter.epochs(t)
		if got.first.Before(from) {
			from = got.first
		}
		f.checkFlows(t, host, got, all)
		f.checkDevices(t, host, got, before[host])
		checkMetrics(t, exporter, got)
	}
	query := fmt.Sprintf("from=%s&to=%s", from.UTC().Format(time.RFC3339Nano), time.Now().Add(time.Second).UTC().Format(time.RFC3339Nano))
	for _, d := range flow.Dimensions {
		f.checkTree(t, d, query, all)
		f.checkHeavy(t, d, query, all)
	}
	f.checkCardinality(t, all)
}

// checkFlows compares each flow that crosses a host with the truth. Nothing else
// may be there: the lab's wire is quiet.
func (f *fleet) checkFlows(t *testing.T, host string, got seen, all map[flow.Key]epoch.Count) {
	t.Helper()
	want := map[flow.Key]epoch.Count{}
	for key, c := range all {
		if slices.Contains(f.path(key), host) {
			want[key] = c
		}
	}
	t.Logf("%s: %d flows in %d epochs", host, len(got.flows), got.sequence)
	for key, c := range want {
		if got.flows[key] != c {
			t.Fatalf("%s counts flow %+v as %v, sent %v", host, key, got.flows[key], c)
		}
	}
	for key := range got.flows {
		if _, ok := want[key]; !ok {
			t.Errorf("%s has flow %+v, which wasn't sent through it", host, key)
		}
	}
}

// checkDevices compares what the hooks saw with the kernel's interface counters.
func (f *fleet) checkDevices(t *testing.T, host string, got seen, before map[string]epoch.Count) {
	t.Helper()
	for device, now := range f.counters(t, host) {
		now.Sub(before[device])
		if got.devices[device] != now {
			t.Errorf("%s %s: the exporter counts %v, the kernel %v", host, device, got.devices[device], now)
		}
		t.Logf("%s %s: %v", host, device, now)
	}
}

// metrics reads a server's /metrics.
func (s *server) metrics(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	response, err := http.Get(s.url + "/metrics")
	must(t, err)
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	must(t, err)
	return families
}

func labels(m *dto.Metric) map[string]string {
	all := map[string]string{}
	for _, l := range m.Label {
		all[l.GetName()] = l.GetValue()
	}
	return all
}

func checkMetrics(t *testing.T, exporter *server, got seen) {
	t.Helper()
	families := exporter.metrics(t)
	found := map[string]float64{}
	for _, m := range families["tma_capture_bytes_total"].GetMetric() {
		l := labels(m)
		found[l["device"]+" "+l["direction"]] = m.GetCounter().GetValue()
	}
	for device, c := range got.devices {
		if found[device] != float64(c.Bytes) {
			t.Errorf("tma_capture_bytes_total of %s is %.0f, its epochs have %d", device, found[device], c.Bytes)
		}
	}
	unaccounted := families["tma_capture_unaccounted_bytes_total"].GetMetric()
	if len(unaccounted) != 1 || unaccounted[0].GetCounter().GetValue() != 0 {
		t.Errorf("tma_capture_unaccounted_bytes_total: %v", unaccounted)
	}
	if n := len(families["tma_flow_bytes_per_second"].GetMetric()); n < 2 || n > 21 {
		t.Errorf("%d series of top flows, want 2 to 21", n)
	}
}

// treeNode is a node of /v1/tree.
type treeNode struct {
	Prefix       string
	Bytes        uint64
	Packets      uint64
	Lower, Upper uint64
	Rest         bool
	Children     []treeNode
}

func (f *fleet) checkTree(t *testing.T, d flow.Dimension, query string, all map[flow.Key]epoch.Count) {
	t.Helper()
	var answer struct{ Root treeNode }
	f.get(t, fmt.Sprintf("/v1/tree?dimension=%s&%s", d, query), &answer)
	var want epoch.Count
	for _, c := range all {
		want.Add(c)
	}
	root := answer.Root
	if root.Prefix != "all" || root.Bytes != want.Bytes || root.Packets != want.Packets {
		t.Errorf("root of the %v tree: %s with %d bytes in %d packets, sent %v", d, root.Prefix, root.Bytes, root.Packets, want)
	}
	root.check(t)
}

// check asserts that children, the rest among them, add up to their parent.
func (n *treeNode) check(t *testing.T) {
	t.Helper()
	if len(n.Children) == 0 {
		return
	}
	sum := uint64(0)
	for i := range n.Children {
		sum += n.Children[i].Bytes
		n.Children[i].check(t)
	}
	if sum != n.Bytes {
		t.Errorf("%s has %d bytes, its children %d", n.Prefix, n.Bytes, sum)
	}
}

func (f *fleet) checkHeavy(t *testing.T, d flow.Dimension, query string, all map[flow.Key]epoch.Count) {
	t.Helper()
	const phi = 0.01
	var answer struct {
		HeavyHitters []struct {
			Prefix       string
			Bytes        uint64
			Conditioned  uint64 `json:"conditioned_bytes"`
			Lower, Upper uint64
		} `json:"heavy_hitters"`
	}
	f.get(t, fmt.Sprintf("/v1/hhh?dimension=%s&phi=%v&%s", d, phi, query), &answer)
	want := heavyPrefixes(all, d, phi)
	got := map[string]heavy{}
	for _, h := range answer.HeavyHitters {
		got[h.Prefix] = heavy{h.Bytes, h.Conditioned}
		if h.Lower > h.Bytes || h.Upper < h.Bytes {
			t.Errorf("%s: %d bytes aren't in [%d, %d]", h.Prefix, h.Bytes, h.Lower, h.Upper)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("heavy %v prefixes\n%v\nwant\n%v", d, got, want)
	}
	t.Logf("%d heavy %v prefixes at phi %v", len(want), d, phi)
}

func (f *fleet) checkCardinality(t *testing.T, all map[flow.Key]epoch.Count) {
	t.Helper()
	sources, destinations := map[[16]byte]bool{}, map[[16]byte]bool{}
	for key := range all {
		sources[key.Source], destinations[key.Destination] = true, true
	}
	want := map[string]int{"flows": len(all), "sources": len(sources), "destinations": len(destinations)}
	var answer struct {
		Estimates []struct {
			Of       string
			Estimate float64
		}
	}
	f.get(t, "/v1/cardinality?window=5m", &answer)
	got := map[string]float64{}
	for _, e := range answer.Estimates {
		got[e.Of] = e.Estimate
	}
	for of, n := range want {
		if difference := got[of]/float64(n) - 1; difference < -0.03 || difference > 0.03 {
			t.Errorf("%d distinct %s are estimated as %.0f", n, of, got[of])
		}
		t.Logf("%d distinct %s, estimated %.0f", n, of, got[of])
	}
}
