package fold

// Occupancy is how full the table was in an epoch.
type Occupancy struct {
	Entries int    // that had traffic at the end: flows, once for each point that saw them
	Folds   uint64 // flows that had traffic and lost their place
}

// Occupancy returns that of the half that was closed last, until its Reset.
func (l *Ledger) Occupancy(h Half) Occupancy { return Occupancy{l.entries, l.books[h].folds} }

// observations counts the points that saw e's flow in the half.
func observations(set []entry, e *entry, h Half) (n int) {
	for i := range set {
		if set[i].active(h) && e.sameFlow(&set[i]) {
			n++
		}
	}
	return n
}
