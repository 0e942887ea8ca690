package hhh

// Levels are the prefix lengths of a hierarchy, ascending from 0 to the length
// of an address, one list for each family.
type Levels struct{ IPv4, IPv6 []int }

// Steps returns the levels that are so many bits apart. Each step has to divide
// its family's address length.
func Steps(ipv4, ipv6 int) Levels {
	return Levels{IPv4: steps(ipv4, 32), IPv6: steps(ipv6, 128)}
}

// DefaultLevels are bytes in IPv4 and 16-bit groups in IPv6.
func DefaultLevels() Levels { return Steps(8, 16) }

func steps(step, to int) []int {
	lengths := make([]int, 0, to/step+1)
	for length := 0; length <= to; length += step {
		lengths = append(lengths, length)
	}
	return lengths
}

// floors returns, for each prefix length of a family, the index of the longest
// level that isn't longer: a mass at a length between two levels gives up the
// bits beyond the shorter one.
func floors(lengths []int) []uint8 {
	index := make([]uint8, lengths[len(lengths)-1]+1)
	for i, length := range lengths {
		for at := length; at < len(index); at++ {
			index[at] = uint8(i)
		}
	}
	return index
}
