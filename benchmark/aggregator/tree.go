package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"time"

	"github.com/traffic-monitor-agent/tma/aggregator/api"
	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/aggregator/scrape"
	"github.com/traffic-monitor-agent/tma/aggregator/store"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// runBuild returns how many seconds a tree of so many distinct IPv4 addresses takes,
// each time.
func runBuild(addresses, repeats int) (seconds []float64, err error) {
	r := rand.New(rand.NewPCG(1, 2))
	masses := make([]hhh.Mass, addresses)
	for i, n := range r.Perm(1 << 24)[:addresses] {
		// The multiplier is odd: all are different, in all four bytes.
		p := netip.PrefixFrom(outsideAddress(uint64(n)), 32)
		masses[i] = hhh.Mass{Prefix: hhh.FromNetip(p), Count: epoch.Count{Packets: 1, Bytes: uint64(r.ExpFloat64() * 1000)}}
	}
	for range repeats {
		began := time.Now()
		b := hhh.NewBuilder(hhh.DefaultLevels())
		b.Add(masses)
		tree := b.Build()
		seconds = append(seconds, time.Since(began).Seconds())
		if tree.Len() < addresses {
			return nil, fmt.Errorf("the tree has %d nodes of %d addresses", tree.Len(), addresses)
		}
	}
	return seconds, nil
}

// hourSettings say what an hour consists of.
type hourSettings struct {
	Exporters int           `json:"exporters"`
	Length    time.Duration `json:"length"`
	Fine      time.Duration `json:"fine"` // at the end, in epochs of a second; before in such of ten
	Questions int           `json:"questions"`
}

// hour is what questions about the last hour took.
type hour struct {
	Seconds []float64 `json:"seconds"` // each question
	Bytes   int       `json:"bytes"`   // of an answer
}

// runHour fills a store with an hour's epochs and asks for /v1/tree over all of it
// while a second's epochs come in between any two questions.
func runHour(s hourSettings) (h hour, err error) {
	now := simulatedStart
	clock := func() time.Time { return now }
	c := store.DefaultConfiguration()
	c.Retention = s.Length
	windows := store.New(c, clock)
	handler := api.New(api.Configuration{Phi: 0.01, Retention: s.Length, MaxStreams: 1}, windows,
		func() []scrape.Status { return nil }, clock, slog.New(slog.DiscardHandler))
	f := newFeed(windows, s.Exporters)
	for now.Before(simulatedStart.Add(s.Length)) {
		length := 10 * time.Second
		if now.Sub(simulatedStart) >= s.Length-s.Fine {
			length = time.Second
		}
		now = now.Add(length)
		if err := f.append(now, length); err != nil {
			return h, err
		}
	}
	window := fmt.Sprintf("/v1/tree?window=%ds&dimension=", int(s.Length/time.Second))
	for i := range s.Questions {
		now = now.Add(time.Second)
		if err := f.append(now, time.Second); err != nil {
			return h, err
		}
		answer, request := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, window+[]string{"source", "destination"}[i%2], nil)
		began := time.Now()
		handler.ServeHTTP(answer, request)
		h.Seconds = append(h.Seconds, time.Since(began).Seconds())
		if answer.Code != http.StatusOK {
			return h, fmt.Errorf("GET %s: %s", request.URL, answer.Body)
		}
		h.Bytes = answer.Body.Len()
		if err := f.check(answer.Body.Bytes(), now.Add(-s.Length)); err != nil {
			return h, err
		}
	}
	return h, nil
}

// feed appends what a fleet sends to a store.
type feed struct {
	to       *store.Store
	epochs   [distinctEpochs][]*epoch.Epoch
	sequence uint64
	sent     []sending
}

// sending is what all hosts together sent until a time, each packet once.
type sending struct {
	until time.Time
	bytes uint64
}

// check fails if an answer isn't about all that was sent since a time, give or take a
// bucket at its edge.
func (f *feed) check(answer []byte, since time.Time) error {
	var about struct {
		Total struct {
			Bytes uint64 `json:"bytes"`
		} `json:"total"`
	}
	if err := json.Unmarshal(answer, &about); err != nil {
		return err
	}
	want := uint64(0)
	for _, s := range f.sent {
		if s.until.After(since) {
			want += s.bytes
		}
	}
	if share := float64(about.Total.Bytes) / float64(want); share < 0.97 || share > 1.03 {
		return fmt.Errorf("an answer is about %d bytes, sent were %d", about.Total.Bytes, want)
	}
	return nil
}

func newFeed(to *store.Store, exporters int) *feed {
	f, t := &feed{to: to}, traffic{exporters}
	for i := range f.epochs {
		for host := range exporters {
			f.epochs[i] = append(f.epochs[i], t.epoch(host, uint64(i+1)))
		}
	}
	for host := range exporters {
		to.SetUp(hostAddress(host).String(), true)
	}
	return f
}

// append appends one epoch of each host, that ends now.
func (f *feed) append(now time.Time, length time.Duration) error {
	f.sequence++
	f.sent = append(f.sent, sending{now, 0})
	for _, e := range f.epochs[f.sequence%distinctEpochs] {
		sent := *e
		f.sent[len(f.sent)-1].bytes += counted(e)
		sent.Sequence, sent.Start, sent.End = f.sequence, now.Add(-length), now
		if err := f.to.Append(e.Host, &sent); err != nil {
			return err
		}
	}
	return nil
}
