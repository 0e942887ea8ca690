package fold

import "testing"

func TestArrayIsZeroedAndWritable(t *testing.T) {
	for _, n := range []int{1, hugePage / 8, 3*hugePage/8 + 5} {
		array := newArray[uint64](n)
		if len(array) != n {
			t.Fatalf("%d words, want %d", len(array), n)
		}
		for i := range array {
			if array[i] != 0 {
				t.Fatalf("word %d of %d is %d", i, n, array[i])
			}
			array[i] = uint64(i) + 1
		}
		freeArray(array)
	}
}
