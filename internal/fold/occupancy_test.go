package fold

import "testing"

// It is told how many entries had traffic, at all points, and how many flows lost
// their place.
func TestOccupancy(t *testing.T) {
	l := newTestLedger(512)
	for n := range uint64(20) {
		for point := range uint16(3) {
			l.Add(0, testRecord(n, 2*point, 1, 100))
		}
	}
	b := l.Close(0)
	if o := l.Occupancy(0); o != (Occupancy{Entries: 60}) || len(b.Flows) != 20 {
		t.Errorf("%+v, %d flows; 20 flows were added at 3 points", o, len(b.Flows))
	}
	l.Reset(0)
	for n := range uint64(2000) {
		l.Add(1, testRecord(1000+n, 0, 1, 100))
	}
	b = l.Close(1)
	if o := l.Occupancy(1); o.Entries != len(b.Flows) || o.Entries > 512 || o.Folds != 2000-uint64(len(b.Flows)) {
		t.Errorf("%+v, %d flows; 2000 flows were added to a table of 512", o, len(b.Flows))
	}
	l.Reset(1)
	l.Close(1)
	if o := l.Occupancy(1); o != (Occupancy{}) {
		t.Errorf("%+v of an empty half", o)
	}
}
