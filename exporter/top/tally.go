package top

// tally sums by key.
type tally[K comparable] struct {
	index   map[K]int32
	entries []entry[K]
}

// entry is a key and its sums.
type entry[K comparable] struct {
	key K
	sums
}

func newTally[K comparable]() *tally[K] { return &tally[K]{index: map[K]int32{}} }

// of returns the sums of a key, to be used before the next call.
func (t *tally[K]) of(key K) *sums {
	i, ok := t.index[key]
	if !ok {
		i = int32(len(t.entries))
		t.index[key] = i
		t.entries = append(t.entries, entry[K]{key: key})
	}
	return &t.entries[i].sums
}
