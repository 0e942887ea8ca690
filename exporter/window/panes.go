package window

import (
	"iter"
	"time"
)

// panes is a sliding window made of sketches of its parts. A pane is the time between
// two multiples of the pane's length. The newest is still being filled, so that a
// window reaches back by its length, less at most a pane.
type panes[S any] struct {
	length time.Duration // of a pane
	newest int64         // number of the newest pane
	ring   []numberedPane[S]
}

type numberedPane[S any] struct {
	number int64 // which pane this place holds; another one's sketch is stale
	sketch S
}

// newPanes returns a window of so many panes with these sketches.
func newPanes[S any](window time.Duration, count int, sketch func() S) panes[S] {
	p := panes[S]{length: window / time.Duration(count), ring: make([]numberedPane[S], count)}
	for i := range p.ring {
		p.ring[i] = numberedPane[S]{-1, sketch()}
	}
	return p
}

// at returns the sketch of the pane in which an epoch that ends just now lies, and
// whether it has to be reset first.
func (p *panes[S]) at(end time.Time) (sketch S, stale bool) {
	p.newest = (end.UnixNano() - 1) / int64(p.length)
	pane := &p.ring[p.newest%int64(len(p.ring))]
	stale = pane.number != p.newest
	pane.number = p.newest
	return pane.sketch, stale
}

// all yields the window's sketches. Panes numbered above the newest are from before
// the clock was set back.
func (p *panes[S]) all() iter.Seq[S] {
	return func(yield func(S) bool) {
		for i := range p.ring {
			if n := p.ring[i].number; n > p.newest-int64(len(p.ring)) && n <= p.newest && !yield(p.ring[i].sketch) {
				return
			}
		}
	}
}
