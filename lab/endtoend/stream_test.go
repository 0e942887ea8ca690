package endtoend

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/traffic-monitor-agent/tma/lab/traffic"
)

// streamed is what the test reads of a message of /v1/stream.
type streamed struct {
	Timestamp time.Time
	Total     struct{ Bytes uint64 }
}

// stream subscribes to the aggregator and passes on every message.
func (f *fleet) stream(ctx context.Context, t *testing.T) <-chan streamed {
	t.Helper()
	conn, _, err := websocket.Dial(ctx, strings.Replace(f.aggregator.url, "http", "ws", 1)+"/v1/stream?window=5m", nil)
	must(t, err)
	t.Cleanup(func() { conn.CloseNow() })
	messages := make(chan streamed, 1024)
	go func() {
		defer close(messages)
		for {
			_, data, err := conn.Read(ctx)
			if err != nil {
				return
			}
			var m streamed
			if json.Unmarshal(data, &m) == nil {
				messages <- m
			}
		}
	}()
	return messages
}

// burst sends a few packets from host-b to host-d and returns their bytes.
func (f *fleet) burst(t *testing.T, seed uint64) uint64 {
	t.Helper()
	c := traffic.DefaultConfiguration()
	c.Seed, c.Packets, c.Flows, c.Rate = seed, 20, 4, 0
	c.Sources, c.Destinations = f.prefixes("host-b"), f.prefixes("host-d")
	generator, err := traffic.New(c)
	must(t, err)
	var sent uint64
	must(t, f.network.Namespace("host-b").Do(func() error {
		result, err := generator.Run(context.Background())
		sent = result.Bytes
		return err
	}))
	return sent
}

// From a packet's sending to its bytes in a message of /v1/stream it takes less
// than a second, wherever in an epoch it was sent.
func TestStreamLatency(t *testing.T) {
	f := newFleet(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	messages := f.stream(ctx, t)
	var total uint64
	var latencies []time.Duration
	for i := range uint64(20) {
		time.Sleep(rand.N(500 * time.Millisecond)) // another place in the epoch
		began := time.Now()
		total += f.burst(t, i)
		for {
			m, ok := <-messages
			if !ok {
				t.Fatal("the stream ended")
			}
			if m.Total.Bytes > total {
				t.Fatalf("the stream has %d bytes, %d were sent", m.Total.Bytes, total)
			}
			if m.Total.Bytes == total {
				break
			}
			if time.Since(began) > 10*time.Second {
				t.Fatalf("after 10 s the stream has %d bytes, %d were sent", m.Total.Bytes, total)
			}
		}
		latencies = append(latencies, time.Since(began))
	}
	slices.Sort(latencies)
	t.Logf("from packet to stream: median %v, worst of %d %v", latencies[len(latencies)/2], len(latencies), latencies[len(latencies)-1])
	if worst := latencies[len(latencies)-1]; worst >= time.Second {
		t.Errorf("from packet to stream took %v, want less than 1 s", worst)
	}
}
