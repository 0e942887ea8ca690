package demo

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// addresses are the lines that say where to look.
func (d *demo) addresses() []string {
	lines := []string{
		"The lab is up. While it runs, look at",
		"  http://" + d.aggregator.address + "/                  the aggregator",
		"  curl 'http://" + d.aggregator.address + sourceQuery + "'",
		"  curl 'http://" + d.aggregator.address + "/v1/tree?dimension=destination&window=10s'",
		"  curl  http://" + d.aggregator.address + "/metrics",
	}
	for _, e := range d.exporters {
		lines = append(lines, "  curl  http://"+e.address+"/metrics     "+e.name)
	}
	return append(lines, "Ctrl-C takes everything down.", "")
}

// footer is addresses in short, for a terminal.
func (d *demo) footer() []string {
	hosts := make([]string, len(d.exporters))
	for i, e := range d.exporters {
		hosts[i] = e.name + " " + e.address
	}
	return []string{
		"curl 'http://" + d.aggregator.address + sourceQuery + "'",
		"curl http://ADDRESS/metrics with ADDRESS " + d.aggregator.address + ", " + strings.Join(hosts, ", "),
	}
}

// frame is what the view shows now, with tables of at most that many rows.
func (d *demo) frame(ctx context.Context, rows int) []string {
	head := fmt.Sprintf("TMA lab  %s  http://%s", time.Now().Format(time.TimeOnly), d.aggregator.address)
	a, err := ask(ctx, d.aggregator.address)
	if err != nil {
		return []string{head, "the aggregator doesn't answer: " + err.Error(), ""}
	}
	return append([]string{head}, a.lines(rows)...)
}

func (a *answers) lines(rows int) []string {
	lines := []string{a.summary(), ""}
	lines = append(lines, a.sources.lines("source", rows)...)
	lines = append(lines, a.destinations.lines("destination", rows)...)
	return append(lines, a.top.lines(a.sources.Total, rows)...)
}

func (a *answers) summary() string {
	up := 0
	for _, e := range a.exporters.Exporters {
		if e.Up {
			up++
		}
	}
	total := a.sources.Total
	parts := []string{
		fmt.Sprintf("exporters %d of %d up", up, len(a.exporters.Exporters)),
		fmt.Sprintf("last %s: %s, %.0f packets/s", window, a.sources.rate(total.Bytes), a.sources.perSecond(total.Packets)),
	}
	return strings.Join(append(parts, "distinct: "+a.distinct()), " | ")
}

// distinct lists the distinct counts, that of flows first.
func (a *answers) distinct() string {
	var counts []string
	for _, e := range a.cardinality.Estimates {
		count := fmt.Sprintf("%.0f %s", e.Estimate, strings.ReplaceAll(e.Of, "_", " "))
		if e.Of == "flows" {
			counts = append([]string{count}, counts...)
		} else {
			counts = append(counts, count)
		}
	}
	return strings.Join(counts, ", ")
}

func (h *heavyHitters) lines(dimension string, rows int) []string {
	lines := []string{fmt.Sprintf("%-44s %12s %7s %12s", "heavy "+dimension+" prefix", "total", "share", "of its own")}
	for _, p := range h.HeavyHitters[:min(rows, len(h.HeavyHitters))] {
		lines = append(lines, fmt.Sprintf("%-44s %12s %7s %12s", p.Prefix, h.rate(p.Bytes), share(p.Bytes, h.Total.Bytes), h.rate(p.ConditionedBytes)))
	}
	return append(lines, "")
}

func (f *topFlows) lines(total amount, rows int) []string {
	lines := []string{fmt.Sprintf("%-70s %12s %7s", "top flow", "total", "share")}
	for _, t := range f.Top[:min(rows, len(f.Top))] {
		flow := fmt.Sprintf("%s %s > %s", t.Protocol, hostPort(t.Source, t.SourcePort), hostPort(t.Destination, t.DestinationPort))
		lines = append(lines, fmt.Sprintf("%-70s %12s %7s", flow, f.rate(t.Bytes), share(t.Bytes, total.Bytes)))
	}
	return append(lines, "")
}

func hostPort(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// perSecond divides by the time that an answer is about.
func (s span) perSecond(v uint64) float64 {
	if seconds := s.To.Sub(s.From).Seconds(); seconds > 0 {
		return float64(v) / seconds
	}
	return 0
}

// rate is bytes per second as text.
func (s span) rate(bytes uint64) string {
	v := s.perSecond(bytes)
	for _, unit := range []string{"B/s", "kB/s", "MB/s"} {
		if v < 1000 {
			return fmt.Sprintf("%.1f %s", v, unit)
		}
		v /= 1000
	}
	return fmt.Sprintf("%.1f GB/s", v)
}

func share(part, total uint64) string {
	if total == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(part)/float64(total))
}
