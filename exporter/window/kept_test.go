package window

import (
	"math/rand/v2"
	"testing"
)

// Size is that of what a reader can get.
func TestSize(t *testing.T) {
	h := newTestHistory(10)
	if epochs, bytes := h.Size(); epochs != 0 || bytes != 0 {
		t.Errorf("%d epochs of %d bytes before the first", epochs, bytes)
	}
	random := rand.New(rand.NewPCG(5, 6))
	for sequence := range uint64(5) {
		add(t, h, testEpoch(sequence+1, mixedFlows(random, 20)...))
	}
	want := 0
	for _, message := range h.After(0, 10, 1<<20).Epochs {
		want += cap(message)
	}
	if epochs, bytes := h.Size(); epochs != 5 || bytes != want {
		t.Errorf("%d epochs of %d bytes, want 5 of %d", epochs, bytes, want)
	}
}
