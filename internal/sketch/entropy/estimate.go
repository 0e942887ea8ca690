package entropy

import (
	"cmp"
	"iter"
	"math"
	"slices"
)

// unionRoom is the number of keys in the sample of a Union: more than in a sketch's,
// for sketches of which each has other keys.
const unionRoom = 4 * sampleRoom

// Union is what several sketches have together, for estimates. It is used again and
// again, in the same memory.
type Union struct {
	counts [histograms][buckets]float64
	sample []keyCount
	spare  []keyCount
	limit  uint64
	total  float64 // packets of known keys
	hidden float64
	sorted [buckets]float64 // scratch
}

// NewUnion returns an empty union.
func NewUnion() *Union {
	return &Union{sample: make([]keyCount, 0, unionRoom+sampleRoom), spare: make([]keyCount, 0, unionRoom+sampleRoom)}
}

// Set makes it the union of these sketches, which it doesn't keep.
func (u *Union) Set(sketches iter.Seq[*Sketch]) {
	clear(u.counts[:])
	u.sample, u.limit, u.hidden, u.total = u.sample[:0], math.MaxUint64, 0, 0
	for s := range sketches {
		for h := range s.counts {
			for i, n := range s.counts[h] {
				u.counts[h][i] += float64(n)
			}
		}
		u.hidden += float64(s.hidden)
		u.limit = min(u.limit, s.limit)
		u.merge(s.sample)
	}
	for h := histograms - 2; h >= 0; h-- {
		for i, n := range u.counts[h+1] {
			u.counts[h][i] += n
		}
	}
	for _, n := range u.counts[0] {
		u.total += n
	}
	u.sample = slices.DeleteFunc(u.sample, func(k keyCount) bool { return k.hash > u.limit })
}

// merge adds a sample.
func (u *Union) merge(sample []keyCount) {
	u.spare = mergeSorted(u.spare[:0], u.sample, sample)
	u.sample, u.spare = u.spare, u.sample
	if len(u.sample) > unionRoom {
		u.limit = min(u.limit, u.sample[unionRoom].hash-1)
		u.sample = u.sample[:unionRoom]
	}
}

// Ratio returns the entropy divided by the greatest one that so many distinct keys
// can have: 1 if all have equally many packets, 0 if there is one key or none. The
// keys of hidden packets are among them.
func (u *Union) Ratio(distinct float64) float64 {
	if u.limit == math.MaxUint64 && u.hidden == 0 {
		distinct = float64(len(u.sample)) // known better
	}
	if distinct < 1.5 {
		return 0
	}
	return max(0, min(1, u.bits(distinct)/math.Log2(distinct)))
}

// bits returns the entropy.
func (u *Union) bits(distinct float64) float64 {
	all := u.total + u.hidden
	return math.Log2(all) - (u.knownLogs()+u.hiddenLogs(distinct))/all
}

// logs is n log2 n.
func logs(n float64) float64 {
	if n <= 0 {
		return 0
	}
	return n * math.Log2(n)
}

// knownLogs returns the sum of n log2 n over keys that are known: of the largest from
// the histogram of all keys, of those that only stand out where there are fewer from
// the next ones, and of the smallest from the sample.
func (u *Union) knownLogs() (sum float64) {
	if u.limit == math.MaxUint64 {
		return logsOf(u.sample)
	}
	left, most := u.total, math.Inf(1)
	for h := 0; h < histograms && lastOf(h) > u.limit; h++ {
		share := float64(lastOf(h)) / math.MaxUint64
		mean, least := u.background(h)
		for _, n := range u.counts[h] {
			if large := n - mean; large > least && large <= most {
				sum += logs(large) / share
				left -= large / share
			}
		}
		most = min(most, least)
	}
	small := slices.DeleteFunc(append(u.spare[:0], u.sample...), func(k keyCount) bool { return float64(k.packets) > most })
	u.spare = small
	sampled := 0.0
	for i := range small {
		sampled += float64(small[i].packets)
	}
	return sum + max(0, left)*logsOf(small)/max(1, sampled)
}

func logsOf(keys []keyCount) (sum float64) {
	for i := range keys {
		sum += logs(float64(keys[i].packets))
	}
	return sum
}

// outlier is by how many standard deviations a bucket stands out that has a large
// key. Few buckets do by chance, though a few small keys together skew them.
const outlier = 5

// background returns what a histogram's bucket has of small keys on the average, and
// how large a key must be to stand out.
func (u *Union) background(h int) (mean, least float64) {
	u.sorted = u.counts[h]
	slices.Sort(u.sorted[:])
	mean = u.sorted[buckets/2]
	least = outlier * max(1, mean-u.sorted[buckets/8]) // a little more than a deviation
	for range 3 {
		mean, least = u.refine(h, mean, least)
	}
	return mean, least
}

// refine says again what the background is, now that large keys are known.
func (u *Union) refine(h int, mean, least float64) (float64, float64) {
	small, ordinary := 0.0, 0.0
	for _, n := range u.counts[h] {
		if n-mean <= least {
			small += n
			ordinary++
		}
	}
	squares := 0.0 // of the small keys in the sample
	for i := range u.sample {
		if n := float64(u.sample[i].packets); n <= least {
			squares += n * n
		}
	}
	// Each bucket has the small keys of its share of the histogram's hashes, whose
	// variance is that of a compound Poisson distribution.
	keys := float64(lastOf(h)) / float64(u.limit)
	return small / max(1, ordinary), outlier * math.Sqrt(max(1, squares*keys/buckets))
}

// hiddenLogs returns the sum of n log2 n over the keys of hidden packets. They are
// those that are distinct but not known, each with equally many: the smallest flows
// are the ones that are hidden. Where that would make them larger than the sample's
// keys they are taken to be like those.
func (u *Union) hiddenLogs(distinct float64) float64 {
	if u.hidden == 0 {
		return 0
	}
	known := float64(len(u.sample)) / (float64(u.limit) / math.MaxUint64)
	keys := max(1, distinct-known)
	if len(u.sample) > 0 {
		keys = max(keys, u.hidden/u.medianSampled())
	}
	return u.hidden * math.Log2(max(1, u.hidden/keys))
}

// medianSampled returns how many packets a key of the sample has. Large keys don't
// move the median.
func (u *Union) medianSampled() float64 {
	u.spare = append(u.spare[:0], u.sample...)
	slices.SortFunc(u.spare, func(a, b keyCount) int { return cmp.Compare(a.packets, b.packets) })
	return float64(u.spare[len(u.spare)/2].packets)
}
