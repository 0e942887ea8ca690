package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"strings"
)

// The table between these lines of the page is ours.
const (
	tableBegin = "<!-- figures: written by `make kernel-support` -->\n"
	tableEnd   = "<!-- end of figures -->"
)

// tolerance is by how much a figure may differ from the page's: kernels get fixes.
const tolerance = 0.1

// compare demands that the page has the figures of the kernels that were tested, or
// writes them.
func (c *configuration) compare(done []*results) error {
	content, err := os.ReadFile(c.page)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(content), tableBegin)
	old, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		return fmt.Errorf("%s: the lines %q and %q aren't there", c.page, strings.TrimSpace(tableBegin), tableEnd)
	}
	if c.update {
		return os.WriteFile(c.page, []byte(before+tableBegin+table(done)+tableEnd+after), 0o644)
	}
	if err := compareTables(old, table(done)); err != nil {
		return fmt.Errorf("%s: %w; `make kernel-support` writes the table", c.page, err)
	}
	return nil
}

// table has a row a kernel and program.
func table(done []*results) string {
	var b strings.Builder
	b.WriteString("| kernel | program | verified instructions | stack, bytes | size, bytes | native code, bytes |\n|---|---|---|---|---|---|\n")
	for _, r := range done {
		for _, f := range r.figures {
			fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %d |\n", r.series.name, f.Program, f.Instructions, f.Stack, f.Size, f.Native)
		}
	}
	return b.String()
}

// rows are a table's figures by its first two columns.
func rows(table string) map[string][4]float64 {
	found := map[string][4]float64{}
	for _, match := range row.FindAllStringSubmatch(table, -1) {
		var figures [4]float64
		for i := range figures {
			fmt.Sscan(match[i+2], &figures[i]) // digits
		}
		found[match[1]] = figures
	}
	return found
}

var row = regexp.MustCompile(`(?m)^\| (\S+ \| \w+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$`)

// compareTables says where the old table isn't about the new one.
func compareTables(old, now string) error {
	var all []error
	written := rows(old)
	for name, figures := range rows(now) {
		for i, f := range figures {
			if math.Abs(f-written[name][i]) > tolerance*f {
				all = append(all, fmt.Errorf("%s: %v, measured %v", name, written[name], figures))
				break
			}
		}
	}
	return errors.Join(all...)
}
