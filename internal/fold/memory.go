package fold

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the size from which on memory is worth a mapping of its own.
const hugePage = 2 << 20

// newArray returns zeroed memory that the garbage collector doesn't know: it
// neither scans it nor lets the heap grow in proportion to it. Huge pages are asked
// for and all are there from the start, so that the first flows of a flood don't
// pay for page faults. T must not hold pointers. freeArray gives it back.
func newArray[T any](n int) []T {
	size := n * int(unsafe.Sizeof(*new(T)))
	if size < hugePage {
		return make([]T, n)
	}
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return make([]T, n)
	}
	// Kernels without these (populating needs 5.14) have slower memory, no less.
	_ = unix.Madvise(memory, unix.MADV_HUGEPAGE)
	_ = unix.Madvise(memory, unix.MADV_POPULATE_WRITE)
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(memory))), n)
}

// freeArray unmaps what newArray mapped; nothing may refer to it any more.
func freeArray[T any](array []T) {
	if size := cap(array) * int(unsafe.Sizeof(*new(T))); size >= hugePage {
		// Fails, and does no harm, where newArray had to take the heap.
		_ = unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(array))), size))
	}
}
