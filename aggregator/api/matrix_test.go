package api

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/networks"
	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

func TestMatrix(t *testing.T) {
	f := newFixture()
	const before = `{` + span1m + fixtureTotals + `"networks":["unnamed"],"matrix":[` +
		`{"source":"unnamed","destination":"unnamed","bytes":10000,"packets":100,"lower":10000,"upper":10400}]}`
	// The folded 1,000 bytes are from and to a prefix of which a part is in lab.
	const after = `{` + span1m + fixtureTotals + `"networks":["corp","unknown","unnamed","web"],"matrix":[` +
		`{"source":"corp","destination":"web","bytes":8000,"packets":80,"lower":8000,"upper":9400},` +
		`{"source":"unknown","destination":"unknown","bytes":1000,"packets":10,"lower":0,"upper":1400},` +
		`{"source":"unnamed","destination":"unnamed","bytes":1000,"packets":10,"lower":1000,"upper":2400}]}`
	f.traffic()
	f.check(t, "/v1/matrix", before)
	f.store.SetNetworks(networks.NewTable([]networks.Network{
		named("10.0.0.0/8", "corp"), named("10.0.0.64/26", "lab"), named("192.0.2.0/24", "web"),
	}))
	f.check(t, "/v1/matrix?window=1m", after)
	f.check(t, "/v1/matrix?from=2023-11-14T22:13:05Z&to=2023-11-14T22:13:06Z", `{"from":"2023-11-14T22:13:05Z","to":"2023-11-14T22:13:06Z",`+
		`"total":{"bytes":0,"packets":0},"remainder":{"bytes":0,"packets":0},"uncertain":{"bytes":0,"packets":0},"unattributed":{"bytes":0,"packets":0},"networks":[],"matrix":[]}`)
	if status, body := f.get(t, "/v1/matrix?dimension=source"); status != http.StatusBadRequest {
		t.Errorf("%d: %s", status, body)
	}
}

func named(prefix, name string) networks.Network {
	return networks.Network{Prefix: yamlconf.Prefix{Prefix: netip.MustParsePrefix(prefix)}, Name: networks.Name(name)}
}

func (f *fixture) check(t *testing.T, target, want string) {
	t.Helper()
	if status, body := f.get(t, target); status != http.StatusOK || body != want {
		t.Errorf("%s: %d\n got %s\nwant %s", target, status, body, want)
	}
}
