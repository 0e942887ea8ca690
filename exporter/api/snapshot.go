package api

import (
	"math"
	"net/http"
	"net/netip"
	"time"

	"github.com/traffic-monitor-agent/tma/exporter/window"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

// snapshotAnswer is the answer of /v1/snapshot.
type snapshotAnswer struct {
	Timestamp       time.Time `json:"timestamp"`
	Host            string    `json:"host"`
	Version         string    `json:"version"`
	AgentCPU        float64   `json:"agent_cpu"`         // CPUs
	AgentCPUSeconds float64   `json:"agent_cpu_seconds"` // over which
	From            time.Time `json:"from"`
	To              time.Time `json:"to"`
	Total           countBody `json:"total"`
	// Unaccounted is signed: more may have been accounted for than was seen.
	Unaccounted struct {
		Bytes   int64 `json:"bytes"`
		Packets int64 `json:"packets"`
	} `json:"unaccounted"`
	CMS struct {
		HeavyHitters []heavyHitter `json:"heavy_hitters_bytes"`
	} `json:"cms"`
	HLL struct {
		Summary struct {
			Cardinalities map[string]map[string]float64 `json:"cardinalities"` // by thing and window
			RelativeError float64                       `json:"relative_error"`
		} `json:"summary"`
	} `json:"hll"`
	Top topBody `json:"top"`
}

type countBody struct {
	Bytes   uint64 `json:"bytes"`
	Packets uint64 `json:"packets"`
}

type heavyHitter struct {
	flowBody
	boundsBody
}

// topBody is the rankings other than that of flows.
type topBody struct {
	WindowSeconds float64       `json:"window_seconds"`
	Sources       []addressBody `json:"sources"`
	Destinations  []addressBody `json:"destinations"`
	Services      []serviceBody `json:"services"`
}

type addressBody struct {
	Address netip.Addr `json:"address"`
	countBody
}

type serviceBody struct {
	Protocol string `json:"protocol"`
	Port     uint16 `json:"port"`
	Service  string `json:"service"`
	countBody
}

// snapshot answers GET /v1/snapshot: what there is to know at a glance.
func (s *server) snapshot(w http.ResponseWriter, r *http.Request) {
	if wrong := parseQuery(r.URL.RawQuery, nil); wrong != nil {
		writeError(w, http.StatusBadRequest, errorBody{wrong.Error(), wrong.parameter})
		return
	}
	top := s.config.Top()
	if top == nil {
		writeError(w, http.StatusServiceUnavailable, errorBody{Error: "no epoch yet"})
		return
	}
	keys := make([]flow.Key, len(top.Flows.Entries))
	for i := range keys {
		keys[i] = top.Flows.Entries[i].Key
	}
	f, err := s.config.EstimateFlows(r.Context(), keys, top.Span)
	if err != nil {
		writeError(w, http.StatusInternalServerError, errorBody{Error: err.Error()})
		return
	}
	now := time.Now()
	answer := &snapshotAnswer{Timestamp: now.UTC(), Host: f.Host, Version: s.config.Version, Top: topOf(top)}
	share, over := s.config.CPU.Share(now)
	answer.AgentCPU, answer.AgentCPUSeconds = share, over.Seconds()
	answer.setFlows(keys, &f)
	answer.setCardinalities(s.config.Cardinality())
	writeJSON(w, answer)
}

func (a *snapshotAnswer) setFlows(keys []flow.Key, f *window.FlowEstimates) {
	a.From, a.To = f.From.UTC(), f.To.UTC()
	a.Total = countBody{f.Total.Bytes, f.Total.Packets}
	a.Unaccounted.Bytes, a.Unaccounted.Packets = int64(f.Unaccounted.Bytes), int64(f.Unaccounted.Packets)
	a.CMS.HeavyHitters = make([]heavyHitter, len(keys))
	for i := range keys {
		a.CMS.HeavyHitters[i] = heavyHitter{bodyOf(&keys[i]), boundsOf(f, i)}
	}
}

func (a *snapshotAnswer) setCardinalities(estimates []window.Estimate) {
	all := map[string]map[string]float64{}
	for _, e := range estimates {
		if all[e.Of] == nil {
			all[e.Of] = map[string]float64{}
		}
		all[e.Of][yamlconf.Duration(e.Window).String()] = math.Round(e.Value)
	}
	a.HLL.Summary.Cardinalities, a.HLL.Summary.RelativeError = all, hll.RelativeError
}

func topOf(top *window.Top) topBody {
	body := topBody{
		WindowSeconds: top.Span.Seconds(),
		Sources:       addressesOf(&top.Sources),
		Destinations:  addressesOf(&top.Destinations),
		Services:      make([]serviceBody, 0, len(top.Services.Entries)),
	}
	for _, e := range top.Services.Entries {
		body.Services = append(body.Services, serviceBody{flow.ProtocolName(e.Key.Protocol), e.Key.Port, e.Key.Name(), countBodyOf(e.Count)})
	}
	return body
}

func addressesOf(ranking *window.Ranking[[16]byte]) []addressBody {
	all := make([]addressBody, 0, len(ranking.Entries))
	for _, e := range ranking.Entries {
		all = append(all, addressBody{netip.AddrFrom16(e.Key).Unmap(), countBodyOf(e.Count)})
	}
	return all
}

func countBodyOf(c epoch.Count) countBody { return countBody{c.Bytes, c.Packets} }
