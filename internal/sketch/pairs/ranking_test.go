package pairs

import (
	"slices"
	"testing"
	"time"
)

// Two addresses of which one has hardly more peers keep their places, until it has
// clearly more.
func TestRankingYieldsToMore(t *testing.T) {
	spread := func(a byte, n int32) Spread { return Spread{Address: [16]byte{a}, Sampled: n} }
	r := NewRanking(1, minute)
	for _, step := range []struct {
		at   time.Duration
		all  []Spread
		want byte
	}{
		{0, []Spread{spread(1, 100)}, 1},
		{time.Second, []Spread{spread(1, 100), spread(2, 300)}, 1},     // just came
		{2 * time.Second, []Spread{spread(1, 100), spread(2, 500)}, 2}, // something happened
		{time.Hour, []Spread{spread(1, 600), spread(2, 500)}, 2},
		{2 * time.Hour, []Spread{spread(1, 700), spread(2, 500)}, 1},
		{3 * time.Hour, []Spread{spread(1, 3), spread(2, 5)}, 1}, // chance
		{4 * time.Hour, []Spread{spread(2, 1)}, 2},               // the other has none any more
		{5 * time.Hour, []Spread{{Address: [16]byte{3}, Sampled: 7, Level: 9}, {Address: [16]byte{2}, Sampled: 3, Level: 9}}, 0},
	} {
		got := r.Rank(slices.Values(step.all), step.at)
		var first byte
		if len(got.Entries) > 0 {
			first = got.Entries[0].Address[0]
		}
		if first != step.want {
			t.Errorf("at %v: %d is first, want %d", step.at, first, step.want)
		}
	}
	if r.told.Admissions != 4 || r.told.Evictions != 4 {
		t.Errorf("%d admissions, %d evictions, want 4 each", r.told.Admissions, r.told.Evictions)
	}
}
