package fold

// Cut is where the n largest of a set of values end.
type Cut struct {
	Threshold uint64 // the n-th largest value
	Ties      int    // how many values equal to it are among the n largest
}

// CutAt finds the cut behind the n largest of at least n values, n > 0, digit by
// digit from the top: at most eight passes, whatever the values. It reorders and
// overwrites values.
func CutAt(values []uint64, n int) Cut {
	var all, threshold uint64
	for _, v := range values {
		all |= v
	}
	for shift := 56; shift >= 0; shift -= 8 {
		if all>>shift == 0 {
			continue
		}
		var counts [256]int
		for _, v := range values {
			counts[uint8(v>>shift)]++
		}
		digit := uint8(255)
		for counts[digit] < n {
			n -= counts[digit]
			digit--
		}
		threshold |= uint64(digit) << shift
		values = withDigit(values, digit, shift)
	}
	return Cut{threshold, n}
}

// withDigit moves the values that have the digit to the front and returns them.
func withDigit(values []uint64, digit uint8, shift int) []uint64 {
	n := 0
	for _, v := range values {
		values[n] = v
		if uint8(v>>shift) == digit {
			n++
		}
	}
	return values[:n]
}

// Keeps tells whether the next value in order is among the n largest. It must be
// asked once for each value, in the same order.
func (c *Cut) Keeps(v uint64) bool {
	if v == c.Threshold && c.Ties > 0 {
		c.Ties--
		return true
	}
	return v > c.Threshold
}
