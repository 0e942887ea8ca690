package load

import "testing"

// Different numbers are different flows, and a workload has as many as it says.
func TestFlowsOfWorkloads(t *testing.T) {
	for _, w := range Workloads() {
		t.Run(w.Name, func(t *testing.T) {
			from, flows := NewSource(w), map[[frameLen]byte]bool{}
			for range orderLen {
				f := frame()
				setFlow(&f, from.next())
				flows[f] = true
			}
			want := w.Flows
			if want == 0 {
				want = orderLen
			}
			// Of a skewed distribution not every flow is drawn.
			if len(flows) > want || len(flows) < want/4 {
				t.Errorf("%d different frames, want %d", len(flows), want)
			}
		})
	}
}
