package main

import (
	"fmt"
	"strings"
)

// figures are what the verifier of one kernel says of one program.
type figures struct {
	Program                           string
	Instructions, Stack, Size, Native int
}

// figuresFormat is a line of exporter/capture's test of the verifier.
const figuresFormat = "verifier: program=%s instructions=%d stack=%d size=%d native=%d"

// parseFigures finds figures in a line of a test's output.
func parseFigures(line string) (f figures, ok bool) {
	at := strings.Index(line, "verifier: program=")
	if at < 0 {
		return f, false
	}
	n, err := fmt.Sscanf(line[at:], figuresFormat, &f.Program, &f.Instructions, &f.Stack, &f.Size, &f.Native)
	return f, err == nil && n == 5
}
