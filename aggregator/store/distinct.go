package store

import (
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
)

// distinct is one HyperLogLog for each thing that is counted distinctly: the
// union over hosts and time, in which what several saw counts once by nature.
type distinct map[string]*hll.Sketch

// maxDistinct bounds how many things are counted; a hostile exporter could name
// any number.
const maxDistinct = 16

// add merges one sketch, unless there are too many things already.
func (d distinct) add(of string, s *hll.Sketch) {
	union := d[of]
	if union == nil {
		if len(d) == maxDistinct {
			return
		}
		union = &hll.Sketch{}
		d[of] = union
	}
	union.Merge(s)
}

// union merges all of another's sketches, which stay as they are.
func (d distinct) union(other distinct) {
	for of, s := range other {
		d.add(of, s)
	}
}

// keyCheck lets only sketches of one key through: hashes of different keys have
// nothing in common, and their union would count everything twice.
type keyCheck struct {
	known       bool
	fingerprint uint64
}

// accept says whether a sketch is of the fleet's key, which is the first one's.
func (k *keyCheck) accept(s *epoch.Sketch) bool {
	if !k.known {
		k.known, k.fingerprint = true, s.KeyFingerprint
	}
	return s.KeyFingerprint == k.fingerprint
}
