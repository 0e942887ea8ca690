// Package window keeps what the exporter shows of the last seconds and minutes:
// the epochs themselves (History), the top talkers (TopK), the numbers of distinct
// things (Cardinality), how evenly packets are spread over addresses (Entropy) and
// who has the most distinct peers (Peers).
//
// Their memory is fixed: distinct things of four kinds take 3.8 MiB, entropies 2.3 and
// peers 3, which a test measures; TopK and History state their own.
//
// Each component is fed by Add with every epoch, in order and by one goroutine,
// and copies what it keeps. Readers run beside it and never delay it for longer
// than it takes to copy a few pointers, or to estimate one sketch.
package window
