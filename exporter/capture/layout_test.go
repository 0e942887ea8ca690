package capture

import "testing"

// The parts of a layout are within the budget, and use most of it, however many
// CPUs there are; a budget that is too small is refused.
func TestLayoutKeepsTheBudget(t *testing.T) {
	for _, budget := range []int{8 << 20, 16 << 20, 64 << 20, 100_000_000, 1 << 30} {
		for _, cpus := range []int{1, 2, 16, 128, 1024} {
			l, err := newLayout(uint64(budget), cpus)
			if err != nil {
				if budget >= cpus<<16 {
					t.Errorf("%d bytes, %d CPUs: %v", budget, cpus, err)
				}
				continue
			}
			if got := l.Bytes(); got > budget || got < budget/8*7 {
				t.Errorf("%d bytes, %d CPUs: the layout takes %d", budget, cpus, got)
			}
			if l.TableEntries*16 < l.cacheSlots() {
				t.Errorf("%d bytes, %d CPUs: %d flows for %d slots", budget, cpus, l.TableEntries, l.cacheSlots())
			}
		}
	}
	if _, err := newLayout(1<<10, 1); err == nil {
		t.Error("took a budget of 1 KiB")
	}
}
