package hll

import (
	"math/rand/v2"
	"testing"
)

func fill(s *Sketch, r *rand.Rand, n int) {
	for range n {
		s.Insert(r.Uint64())
	}
}

func TestEmptyIsZero(t *testing.T) {
	var s Sketch
	if got := s.Estimate(); got != 0 {
		t.Errorf("empty sketch estimates %v", got)
	}
	s.Insert(42)
	s.Reset()
	if got := s.Estimate(); got != 0 {
		t.Errorf("sketch that was reset estimates %v", got)
	}
}

func TestMergeIsUnion(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var a, b, union, viaBytes Sketch
	for i := range 30_000 {
		h := r.Uint64()
		if i < 20_000 {
			a.Insert(h)
		}
		if i >= 10_000 {
			b.Insert(h)
		}
		union.Insert(h)
	}
	viaBytes.Merge(&a)
	if err := viaBytes.MergeBytes(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	if viaBytes != union {
		t.Error("merging two sketches isn't the sketch of the union")
	}
}

func TestMergeBytesRefusesOthers(t *testing.T) {
	var s Sketch
	if err := s.MergeBytes(make([]byte, 100)); err == nil {
		t.Error("took 100 registers")
	}
	bad := make([]byte, Registers)
	bad[0], bad[Registers-1] = 1, maxRank+1
	if err := s.MergeBytes(bad); err == nil {
		t.Error("took a register beyond the greatest rank")
	}
	if s != (Sketch{}) {
		t.Error("a refused merge changed the sketch")
	}
}

func TestAllOnesAndAllZerosHash(t *testing.T) {
	var s Sketch
	s.Insert(0)
	if got := s.registers[0]; got != maxRank {
		t.Errorf("rank of hash 0 is %d, want %d", got, maxRank)
	}
	s.Insert(^uint64(0))
	if got := s.registers[Registers-1]; got != 1 {
		t.Errorf("rank of a hash of all ones is %d, want 1", got)
	}
}
