package window

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"sort"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/fold"
)

// ladderEntries is the room of each level of the ladders of an epoch on its way
// out. Simulated with a thousand, every prefix of 0.3 % of the traffic is found.
const ladderEntries = 1024

// HistoryConfig says what a History keeps.
type HistoryConfig struct {
	Flows     int           // flows that an epoch keeps, at least 1
	Retention time.Duration // age, against the newest epoch, beyond which an epoch goes
	MaxBytes  int           // of all messages; the newest stays whatever its size
	Fleet     []netip.Prefix
}

// History keeps the last epochs as they go out to aggregators: encoded and
// compressed, the smaller flows folded into the ladders, bytes and packets conserved.
// Many may read at once; none of them holds the lock for longer than it takes to copy
// the slices of a batch, and never while it writes to a client.
type History struct {
	ladders    *fold.Ladders
	flows      []epoch.Flow // those that an epoch keeps; for the next one again
	scratch    []uint64
	fitter     fitter
	compressor *zstd.Encoder
	trimmed    *epoch.Epoch // by the last Encode
	sent       *epoch.Epoch

	mu     sync.Mutex
	config HistoryConfig
	epochs []encodedEpoch // oldest first
	bytes  int            // of epochs
	added  chan struct{}  // closed by the next Keep
}

// encodedEpoch is immutable once it is in a History.
type encodedEpoch struct {
	sequence uint64
	end      time.Time
	message  Message
}

// NewHistory returns an empty History.
func NewHistory(c HistoryConfig) *History {
	return &History{
		config:     c,
		ladders:    fold.NewLadders(ladderEntries),
		fitter:     fitter{ladders: fold.NewLadders(ladderEntries)},
		compressor: newCompressor(),
		added:      make(chan struct{}),
	}
}

// Reconfigure changes what is kept from the next epoch on; MaxBytes stays.
func (h *History) Reconfigure(c HistoryConfig) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.MaxBytes = h.config.MaxBytes
	h.config = c
}

// Add trims, encodes and keeps an epoch. It reads e and keeps nothing of it. On
// an error the epoch is missing from the History.
func (h *History) Add(e *epoch.Epoch) error {
	message, err := h.Encode(e)
	if err != nil {
		return err
	}
	h.Keep(e.Sequence, e.End, message)
	return nil
}

// Encode returns the message of an epoch as it goes out, trimmed, and folded further
// until it is at most maxMessageBytes. It reads e and keeps nothing of it. Not safe for
// concurrent use.
func (h *History) Encode(e *epoch.Epoch) (Message, error) {
	h.mu.Lock()
	config := h.config
	h.mu.Unlock()
	classifier := fold.Classifier{Local: e.LocalNetworks, Fleet: config.Fleet}
	h.trimmed = h.trim(e, &config, &classifier)
	limit := float64(max(maxMessageBytes, config.Flows*maxMessageBytes/1000))
	for target, fits := 0.97*limit, 0; ; target, fits = target*0.9, fits+1 {
		flows, room := h.fitter.cost.plan(h.trimmed, target)
		if fits == maxFits {
			flows, room = 1, 1
		}
		h.sent = h.fitter.fold(h.trimmed, flows, room, &classifier)
		h.sent.SamplePairs()
		encoded, err := epoch.Encode(h.sent)
		if err != nil {
			return nil, fmt.Errorf("encode epoch %d: %w", e.Sequence, err)
		}
		message, s := compress(h.compressor, encoded)
		h.fitter.cost.learn(h.sent, &s)
		if float64(len(message)) <= limit || fits == maxFits {
			return message, nil
		}
	}
}

// Trimmed returns the epoch that was encoded last with its largest flows, and every
// other one in the ladders. It is valid until the next Encode, and not safe for
// concurrent use with that.
func (h *History) Trimmed() *epoch.Epoch { return h.trimmed }

// Sent returns the epoch that was encoded last as it went out, which is Trimmed, or
// less if that was too large. It is valid as long as that.
func (h *History) Sent() *epoch.Epoch { return h.sent }

// Keep keeps a message that Encode returned; it belongs to the History from then on.
func (h *History) Keep(sequence uint64, end time.Time, message Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.epochs = append(h.epochs, encodedEpoch{sequence, end, message})
	h.bytes += len(message)
	h.expire()
	close(h.added)
	h.added = make(chan struct{})
}

// Size returns how many epochs are kept, and the memory of their messages. Safe for
// concurrent use.
func (h *History) Size() (epochs, bytes int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.epochs), h.bytes
}

// trim returns the epoch with its largest flows alone, every other folded into
// the ladders. What it returns is valid until the next call.
func (h *History) trim(e *epoch.Epoch, config *HistoryConfig, classifier *fold.Classifier) *epoch.Epoch {
	trimmed := *e
	if len(e.Flows) <= config.Flows {
		// Encode sorts what it is given, and e isn't ours.
		h.flows = append(h.flows[:0], e.Flows...)
		trimmed.Flows = h.flows
		return &trimmed
	}
	h.ladders.Reset()
	h.ladders.AddPrefixes(e.Ladders)
	h.flows, h.scratch = keepLargest(h.flows[:0], h.scratch, e.Flows, config.Flows, h.ladders, classifier, &trimmed.Doubtful)
	trimmed.Flows, trimmed.Ladders = h.flows, h.ladders.Snapshot()
	return &trimmed
}

// keepLargest appends the n largest flows and folds the others, whose doubts it adds to
// doubtful. It uses and returns scratch, for the next call.
func keepLargest(to []epoch.Flow, scratch []uint64, flows []epoch.Flow, n int, ladders *fold.Ladders, classifier *fold.Classifier, doubtful *epoch.Count) ([]epoch.Flow, []uint64) {
	largest, scratch := cutAt(flowBytes(flows), n, scratch)
	for i := range flows {
		f := &flows[i]
		if largest.Keeps(f.Bytes) {
			to = append(to, *f)
		} else {
			ladders.Add(classifier.Class(&f.Key), &f.Key, f.Count)
			doubtful.Add(f.Doubts())
		}
	}
	return to, scratch
}

func flowBytes(flows []epoch.Flow) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for i := range flows {
			if !yield(flows[i].Bytes) {
				return
			}
		}
	}
}

// expire drops epochs that are too old or for which there is no room.
func (h *History) expire() {
	newest := h.epochs[len(h.epochs)-1].end
	for len(h.epochs) > 1 {
		oldest := &h.epochs[0]
		if h.bytes <= h.config.MaxBytes && newest.Sub(oldest.end) <= h.config.Retention {
			return
		}
		h.bytes -= len(oldest.message)
		oldest.message = nil // the array behind the slice lives on for a while
		h.epochs = h.epochs[1:]
	}
}

// Batch is a part of a History.
type Batch struct {
	Oldest, Newest uint64    // the sequences that the History holds; both 0 if none
	Epochs         []Message // oldest first; not to be written
}

// After returns the epochs behind a sequence, at most maxEpochs and, beyond the
// first, at most maxBytes.
func (h *History) After(sequence uint64, maxEpochs, maxBytes int) Batch {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.epochs) == 0 {
		return Batch{}
	}
	batch := Batch{Oldest: h.epochs[0].sequence, Newest: h.epochs[len(h.epochs)-1].sequence}
	for _, e := range h.epochs[h.behind(sequence):] {
		maxBytes -= len(e.message)
		if len(batch.Epochs) == maxEpochs || len(batch.Epochs) > 0 && maxBytes < 0 {
			break
		}
		batch.Epochs = append(batch.Epochs, e.message)
	}
	return batch
}

// behind returns the index of the first epoch with a greater sequence.
func (h *History) behind(sequence uint64) int {
	return sort.Search(len(h.epochs), func(i int) bool { return h.epochs[i].sequence > sequence })
}

// Wait returns nil as soon as there is an epoch behind a sequence, and the
// context's error if that ends first.
func (h *History) Wait(ctx context.Context, sequence uint64) error {
	for {
		h.mu.Lock()
		there, added := h.behind(sequence) < len(h.epochs), h.added
		h.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-added:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
