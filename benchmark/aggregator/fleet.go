package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// fleetCommand is the first argument of the process that is all simulated exporters.
const fleetCommand = "fleet"

const (
	// distinctEpochs is how many different epochs a host sends in turn.
	distinctEpochs = 3
	// keptEpochs are those that an exporter still has.
	keptEpochs  = 30
	epochLength = time.Second
)

// fleet is many exporters in one process, each with an address of its own. An epoch is
// there when its time is over, a different part of the second for each host. The first
// one is empty and from before the start, so that all hosts are known from then on.
type fleet struct {
	exporters []*exporter
	port      int
	start     time.Time
	last      uint64 // sequence
	boot      [16]byte
}

// exporter is one host's.
type exporter struct {
	phase    time.Duration
	first    message
	messages [distinctEpochs]message

	mu   sync.Mutex
	read uint64    // sequence up to which it was read
	late []float64 // seconds from the end of an epoch until the next one was asked for
}

// summary is what the fleet knows at the end.
type summary struct {
	CPUSeconds float64   `json:"cpu_seconds"`
	Epochs     uint64    `json:"epochs"`   // that were read
	Unread     uint64    `json:"unread"`   // that weren't
	Bytes      uint64    `json:"bytes"`    // in them, each packet once
	Latest     float64   `json:"latest"`   // s
	Late       []float64 `json:"late"`     // quantiles: 0.5, 0.99, 0.999
	TooLate    uint64    `json:"too_late"` // by more than a second
}

// Quantile returns one of Late, if any epoch was read.
func (s *summary) Quantile(i int) float64 {
	if i < len(s.Late) {
		return s.Late[i]
	}
	return 0
}

// ready is what the process says when it listens.
type ready struct {
	Targets []string  `json:"targets"`
	Start   time.Time `json:"start"`
}

// fleetMain serves a number of exporters for so many epochs, until the standard input
// ends.
func fleetMain(hosts, epochs string) error {
	n, err := strconv.Atoi(hosts)
	if err != nil {
		return err
	}
	last, err := strconv.ParseUint(epochs, 10, 64)
	if err != nil {
		return err
	}
	f, err := newFleet(n, last+1)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: f, ReadHeaderTimeout: 5 * time.Second}
	targets, err := f.listen(server)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(ready{targets, f.start}); err != nil {
		return err
	}
	before := cpuSeconds()
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	s := f.summary()
	s.CPUSeconds = cpuSeconds() - before
	return errors.Join(server.Close(), json.NewEncoder(os.Stdout).Encode(s))
}

// newFleet encodes everything that will be sent.
func newFleet(hosts int, last uint64) (*fleet, error) {
	f := &fleet{exporters: make([]*exporter, hosts), last: last}
	f.boot[0] = 1
	var encoding errgroup.Group
	encoding.SetLimit(runtime.GOMAXPROCS(0))
	for i := range f.exporters {
		encoding.Go(func() (err error) {
			f.exporters[i], err = newExporter(i, hosts)
			return err
		})
	}
	err := encoding.Wait()
	f.start = time.Now().Truncate(time.Second).Add(2 * time.Second)
	return f, err
}

func newExporter(host, hosts int) (*exporter, error) {
	x, t := &exporter{phase: time.Duration(host) * epochLength / time.Duration(hosts)}, traffic{hosts}
	var err error
	empty := &epoch.Epoch{Host: hostAddress(host).String(), Start: time.Unix(0, 0), End: time.Unix(0, 0), LocalNetworks: localNetworks(host)}
	if x.first, err = newMessage(empty); err != nil {
		return nil, err
	}
	for i := range x.messages {
		if x.messages[i], err = newMessage(t.epoch(host, uint64(i+1))); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// listen serves every exporter at an address of its own in 127.0.0.0/8.
func (f *fleet) listen(server *http.Server) (targets []string, err error) {
	for i := range f.exporters {
		address := net.IPv4(127, 77, byte(i>>6), byte(i&63)+1)
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: address, Port: f.port})
		if err != nil {
			return nil, fmt.Errorf("exporter %d: %w", i, err)
		}
		f.port = l.Addr().(*net.TCPAddr).Port
		targets = append(targets, l.Addr().String())
		go server.Serve(l) //nolint:errcheck // ends with the server
	}
	return targets, nil
}

// ServeHTTP answers as GET /v1/epochs does.
func (f *fleet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	local := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr).IP.To4()
	x := f.exporters[int(local[2])<<6+int(local[3])-1]
	after, err := strconv.ParseUint(r.FormValue("after"), 10, 64)
	wait, err2 := time.ParseDuration(r.FormValue("wait"))
	if err := errors.Join(err, err2); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	x.noteRead(after, time.Since(f.end(x, after)))
	f.sleep(r.Context(), x, after, wait)
	answer := f.answer(x, after, time.Now())
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.Header().Set("Content-Encoding", "zstd")
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	w.Write(answer) //nolint:errcheck // the client has gone
}

// end is when the epoch of a sequence is over, that of the first being the start.
func (f *fleet) end(x *exporter, sequence uint64) time.Time {
	return f.start.Add(x.phase + time.Duration(sequence-1)*epochLength)
}

// noteRead takes note that all epochs up to a sequence were read and merged, the last
// one so long after its end.
func (x *exporter) noteRead(sequence uint64, late time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for ; x.read < sequence; x.read++ {
		if behind := time.Duration(sequence-x.read-1) * epochLength; x.read > 0 {
			x.late = append(x.late, (late + behind).Seconds())
		}
	}
}

// sleep waits until there is an epoch behind a sequence.
func (f *fleet) sleep(ctx context.Context, x *exporter, after uint64, wait time.Duration) {
	if after < f.last {
		wait = min(wait, time.Until(f.end(x, after+1)))
	}
	if wait <= 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// answer is a batch of the epochs behind a sequence that there are.
func (f *fleet) answer(x *exporter, after uint64, now time.Time) []byte {
	newest := uint64(0)
	if passed := now.Sub(f.end(x, 1)); passed >= 0 {
		newest = min(f.last, 1+uint64(passed/epochLength))
	}
	oldest := min(newest, max(1, newest-min(newest, keptEpochs)))
	answer := compressor.EncodeAll(epoch.EncodeBatchHeader(f.boot, oldest, newest), nil)
	for sequence := max(after+1, oldest); sequence <= newest; sequence++ {
		answer = x.append(answer, sequence, f.end(x, sequence))
	}
	return answer
}

func (x *exporter) append(answer []byte, sequence uint64, end time.Time) []byte {
	if sequence == 1 {
		return x.first.append(answer, 1, end.Add(-10*time.Second).UnixNano(), end.UnixNano())
	}
	return x.message(sequence).append(answer, sequence, end.Add(-epochLength).UnixNano(), end.UnixNano())
}

func (x *exporter) message(sequence uint64) *message { return &x.messages[sequence%distinctEpochs] }

// summary adds up all exporters.
func (f *fleet) summary() (s summary) {
	var late []float64
	for _, x := range f.exporters {
		x.mu.Lock()
		for sequence := uint64(2); sequence <= x.read; sequence++ {
			s.Bytes += x.message(sequence).bytes
		}
		s.Epochs += x.read
		s.Unread += f.last - x.read
		late = append(late, x.late...)
		x.mu.Unlock()
	}
	slices.Sort(late)
	for _, l := range late {
		if l > 1 {
			s.TooLate++
		}
	}
	if len(late) > 0 {
		s.Latest = late[len(late)-1]
		for _, q := range []float64{0.5, 0.99, 0.999} {
			s.Late = append(s.Late, late[int(q*float64(len(late)-1))])
		}
	}
	return s
}
