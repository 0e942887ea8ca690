package capture

import (
	"slices"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// batchFlows is the number of flows of a frameBatch.
const batchFlows = 40

// frameBatch is what a test sends: frames, and their flows' counts without any tag.
type frameBatch struct {
	frames [][]byte
	flows  map[flow.Key]epoch.Count
	sum    epoch.Count
}

// newBatch makes flows of one to five packets, each frame with the tags.
func newBatch(first uint32, tags ...byte) frameBatch {
	b := frameBatch{flows: map[flow.Key]epoch.Count{}}
	for n := range uint32(batchFlows) {
		p := udpPacket(first+n, 30+int(n))
		frame := slices.Concat(p.data[:12], tags, p.data[12:])
		for range n%5 + 1 {
			b.frames = append(b.frames, frame)
			c := epoch.Count{Packets: 1, Bytes: uint64(len(p.data))}
			b.sum.Add(c)
			flowSum := b.flows[p.key]
			flowSum.Add(c)
			b.flows[p.key] = flowSum
		}
	}
	return b
}
