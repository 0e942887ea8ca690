package collector

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// refreshInterval is the greatest age of values of the fleet, while they cost little.
	refreshInterval = time.Second
	// refreshPause is how many times as long as it took to compute them nothing is
	// computed: all that trees and sketches cost is a tenth of a core.
	refreshPause = 9
	// refreshIdle is after how long without a scrape nothing is computed any more.
	refreshIdle = 2 * time.Minute
)

// refresher keeps what takes long to compute up to date for as long as somebody asks
// for it, so that nobody waits for it: a scrape of a full store would take a good
// part of a second. Only the first one computes its values itself.
type refresher struct {
	compute func() []prometheus.Metric

	mu      sync.Mutex
	running bool
	asked   time.Time
	values  []prometheus.Metric
}

// read returns the values as of a moment ago.
func (r *refresher) read() []prometheus.Metric {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = time.Now()
	if !r.running {
		r.running = true
		begin := time.Now()
		r.values = r.compute()
		r.schedule(time.Since(begin))
	}
	return r.values
}

// schedule has values computed again, given how long it took last.
func (r *refresher) schedule(took time.Duration) {
	time.AfterFunc(max(refreshInterval, refreshPause*took), r.refresh)
}

func (r *refresher) refresh() {
	if r.idle() {
		return
	}
	begin := time.Now()
	values := r.compute()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.values = values
	r.schedule(time.Since(begin))
}

// idle ends the refreshing if nobody asks any more.
func (r *refresher) idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.asked) < refreshIdle {
		return false
	}
	r.running, r.values = false, nil
	return true
}
