package endtoend

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// foldingConfig is that of exporters that give most flows up.
const foldingConfig = `
capture:
  epoch: 500ms
  memory: 8MiB
  fleet: [%s]
epochs:
  flows: 50
`

// subsets lists every set of the hosts but the empty one.
func subsets(hosts []string) (all [][]string) {
	for bits := 1; bits < 1<<len(hosts); bits++ {
		var subset []string
		for i, host := range hosts {
			if bits>>i&1 == 1 {
				subset = append(subset, host)
			}
		}
		all = append(all, subset)
	}
	return all
}

// visible returns what of the truth at least one of the fleet's exporters saw.
func (f *fleet) visible(all map[flow.Key]epoch.Count) map[flow.Key]epoch.Count {
	seen := map[flow.Key]epoch.Count{}
	for key, c := range all {
		if slices.ContainsFunc(f.path(key), func(host string) bool { return f.exporters[host] != nil }) {
			seen[key] = c
		}
	}
	return seen
}

// Whichever of the hosts have an exporter, what these see counts once, to the byte.
func TestEverySubset(t *testing.T) {
	t.Parallel() // a lab of its own each
	f := newLab(t)
	for _, hosts := range subsets(f.network.HostNames()) {
		t.Run(strings.Join(hosts, "+"), func(t *testing.T) {
			f.start(t, exporterConfig, hosts...)
			want := f.visible(f.send(t, 20_000, 2_000).all())
			f.settle(t)
			for _, d := range flow.Dimensions {
				f.checkTree(t, d, "window=5m", want)
			}
			f.checkTopFlows(t, want, true)
			f.checkTopAddresses(t, want, true)
			f.checkCardinality(t, want)
		})
	}
}

// The same where most flows are folded: the truth is in every interval, and where
// the classes decide all, counts are exact.
func TestEverySubsetFolded(t *testing.T) {
	t.Parallel() // a lab of its own each
	f := newLab(t)
	for _, hosts := range subsets(f.network.HostNames()) {
		t.Run(strings.Join(hosts, "+"), func(t *testing.T) {
			f.start(t, foldingConfig, hosts...)
			want := f.visible(f.send(t, 60_000, 30_000).all())
			f.settle(t)
			// The router alone may have traffic of which others know more, or less.
			exact := len(hosts) == len(f.network.HostNames()) || !slices.Contains(hosts, "host-a")
			for _, d := range flow.Dimensions {
				f.checkRoot(t, d, want, exact)
			}
			f.checkTopFlows(t, want, false)
			f.checkTopAddresses(t, want, exact)
			f.checkCardinality(t, want)
		})
	}
}

// checkRoot looks for the truth in the interval of everything.
func (f *fleet) checkRoot(t *testing.T, d flow.Dimension, want map[flow.Key]epoch.Count, exact bool) {
	t.Helper()
	var answer struct{ Root treeNode }
	f.get(t, fmt.Sprintf("/v1/tree?dimension=%s&window=5m", d), &answer)
	var sent epoch.Count
	for _, c := range want {
		sent.Add(c)
	}
	root := answer.Root
	root.check(t)
	t.Logf("%d bytes of %d by %s, in [%d, %d]", root.Bytes, sent.Bytes, d, root.Lower, root.Upper)
	if sent.Bytes < root.Lower || sent.Bytes > root.Upper {
		t.Errorf("%d bytes by %s were sent, not in [%d, %d]", sent.Bytes, d, root.Lower, root.Upper)
	}
	if exact && f.exporters["host-a"] == nil && root.Lower != root.Upper { // no router, no doubt
		t.Errorf("the interval by %s is [%d, %d]", d, root.Lower, root.Upper)
	}
	if exact && (root.Bytes != sent.Bytes || root.Packets != sent.Packets) {
		t.Errorf("root of the %s tree: %d bytes in %d packets, sent %v", d, root.Bytes, root.Packets, sent)
	}
}

// ranked is an entry of /v1/top.
type ranked struct {
	Source, Destination netip.Addr
	SourcePort          uint16 `json:"source_port"`
	DestinationPort     uint16 `json:"destination_port"`
	Protocol            string
	Bytes, Lower, Upper uint64
}

func (f *fleet) topOf(t *testing.T, by string) []ranked {
	t.Helper()
	var answer struct{ Top []ranked }
	f.get(t, "/v1/top?limit=10000&window=5m&by="+by, &answer)
	return answer.Top
}

// check compares an entry with the truth.
func (r *ranked) check(t *testing.T, want uint64, exact bool) {
	t.Helper()
	if want < r.Lower || want > r.Upper || exact && want != r.Bytes {
		t.Errorf("%+v, sent %d", *r, want)
	}
}

// checkTopFlows compares all flows that the aggregator knows; exact ones have to be
// all.
func (f *fleet) checkTopFlows(t *testing.T, want map[flow.Key]epoch.Count, exact bool) {
	t.Helper()
	top := f.topOf(t, "flow")
	for i := range top {
		r := &top[i]
		key := flow.Key{
			Source: r.Source.As16(), Destination: r.Destination.As16(),
			SourcePort: r.SourcePort, DestinationPort: r.DestinationPort, Protocol: flow.ProtocolUDP,
		}
		if r.Protocol == flow.ProtocolName(flow.ProtocolTCP) {
			key.Protocol = flow.ProtocolTCP
		}
		r.check(t, want[key].Bytes, exact)
	}
	if len(top) == 0 || exact && len(top) != len(want) {
		t.Errorf("%d flows, sent %d", len(top), len(want))
	}
}

// checkTopAddresses compares all addresses that the aggregator knows.
func (f *fleet) checkTopAddresses(t *testing.T, want map[flow.Key]epoch.Count, exact bool) {
	t.Helper()
	for _, d := range flow.Dimensions {
		bytes := map[netip.Addr]uint64{}
		for key, c := range want {
			bytes[key.Addr(d)] += c.Bytes
		}
		top := f.topOf(t, d.String())
		for i := range top {
			r := &top[i]
			address := r.Source
			if d == flow.Destination {
				address = r.Destination
			}
			r.check(t, bytes[address], exact && d == flow.Source)
		}
		if len(top) == 0 {
			t.Errorf("no top by %s", d)
		}
	}
}
