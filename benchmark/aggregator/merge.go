package main

import (
	"fmt"
	"runtime"
	"time"

	"github.com/traffic-monitor-agent/tma/aggregator/store"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// records are measurements in records a second of CPU time, the garbage collector's
// included.
type records struct {
	Decode []float64 `json:"decode"` // from the message to an epoch, without zstd
	Merge  []float64 `json:"merge"`  // from the message until its second is closed
}

// mergeSettings say how much is decoded and merged.
type mergeSettings struct {
	Exporters int `json:"exporters"`
	Seconds   int `json:"seconds"`
	Repeats   int `json:"repeats"`
}

// runMerge decodes and merges what a fleet sends in some seconds, several times.
func runMerge(s mergeSettings) (r records, err error) {
	rounds, err := encodedRounds(s)
	if err != nil {
		return r, err
	}
	for range s.Repeats {
		decode, err := perSecond(func() (int, error) {
			return forEachEpoch(rounds, func(int, *epoch.Epoch) error { return nil })
		})
		if err != nil {
			return r, err
		}
		merge, err := perSecond(func() (int, error) { return merged(rounds) })
		if err != nil {
			return r, err
		}
		r.Decode, r.Merge = append(r.Decode, decode), append(r.Merge, merge)
	}
	return r, nil
}

// perSecond returns how many records a second of CPU time something handles.
func perSecond(handle func() (records int, err error)) (float64, error) {
	runtime.GC()
	before := cpuSeconds()
	n, err := handle()
	return float64(n) / (cpuSeconds() - before), err
}

// encodedRounds are the answers of all exporters, by second.
func encodedRounds(s mergeSettings) (rounds [][][]byte, err error) {
	t := traffic{s.Exporters}
	for second := range s.Seconds {
		round := make([][]byte, s.Exporters)
		for host := range round {
			e := t.epoch(host, uint64(second%distinctEpochs+1))
			e.Sequence = uint64(second + 1)
			e.Start, e.End = simulatedStart.Add(time.Duration(second)*time.Second), simulatedStart.Add(time.Duration(second+1)*time.Second)
			encoded, err := epoch.Encode(e)
			if err != nil {
				return nil, err
			}
			round[host] = epoch.EncodeBatch([16]byte{1}, 1, e.Sequence, [][]byte{encoded})
		}
		rounds = append(rounds, round)
	}
	return rounds, nil
}

// simulatedStart is when time starts that isn't the real one.
var simulatedStart = time.Unix(1_700_000_000, 0)

func forEachEpoch(rounds [][][]byte, do func(host int, e *epoch.Epoch) error) (records int, err error) {
	for _, round := range rounds {
		for host, answer := range round {
			batch, err := epoch.DecodeBatch(answer)
			if err != nil {
				return 0, err
			}
			records += len(batch.Epochs[0].Flows)
			if err := do(host, batch.Epochs[0]); err != nil {
				return 0, err
			}
		}
	}
	return records, nil
}

// merged has a store take all rounds, and waits until it has closed their seconds.
func merged(rounds [][][]byte) (records int, err error) {
	now := simulatedStart
	s := store.New(store.DefaultConfiguration(), func() time.Time { return now })
	for host := range rounds[0] {
		s.SetUp(fmt.Sprint(host), true)
	}
	records, err = forEachEpoch(rounds, func(host int, e *epoch.Epoch) error {
		now = e.End
		return s.Append(fmt.Sprint(host), e)
	})
	now = now.Add(time.Minute)
	s.Totals()
	return records, err
}
