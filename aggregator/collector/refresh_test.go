package collector

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Scrapes don't compute, values are new again soon, and after the last scrape nothing
// is computed any more.
func TestRefresher(t *testing.T) {
	var computed atomic.Int64
	r := refresher{compute: func() []prometheus.Metric {
		return make([]prometheus.Metric, computed.Add(1))
	}}
	for range 100 {
		r.read()
	}
	if n := computed.Load(); n != 1 {
		t.Errorf("100 scrapes at once computed %d times", n)
	}
	for deadline := time.Now().Add(20 * time.Second); len(r.read()) < 3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("computed %d times in 20 s", computed.Load())
		}
	}
	r.mu.Lock()
	r.asked = time.Now().Add(-refreshIdle)
	r.mu.Unlock()
	for deadline := time.Now().Add(20 * time.Second); !r.stopped(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it goes on though nobody asks")
		}
	}
	before := computed.Load()
	if got := len(r.read()); int64(got) != before+1 {
		t.Errorf("the first scrape after that got what was computed %d times, want %d", got, before+1)
	}
}

func (r *refresher) stopped() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.running
}
