// Package docs keeps the generated parts of documents what they are generated from:
// tests compare them, and write them where `make docs` runs the tests.
package docs

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// writeVariable makes Section write, in the environment.
const writeVariable = "TMA_WRITE_DOCS"

// Section compares what is between the marks of a section in a Markdown file with
// what belongs there, or puts it there. The marks are comments, each a line of its
// own: begin and end, and the section's name.
func Section(t testing.TB, file, name, want string) {
	t.Helper()
	before, got, after := cut(t, file, name)
	want = "\n" + strings.TrimSpace(want) + "\n\n"
	if got == want {
		return
	}
	if os.Getenv(writeVariable) == "" {
		t.Errorf("%s: %s isn't up to date: run make docs\n%s", file, name, difference(got, want))
		return
	}
	if err := os.WriteFile(file, []byte(before+want+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Read returns what is between the marks of a section in a file.
func Read(t testing.TB, file, name string) string {
	t.Helper()
	_, text, _ := cut(t, file, name)
	return text
}

// cut returns what is up to the first mark of a section, between the marks, and from
// the second one on.
func cut(t testing.TB, file, name string) (before, between, after string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := mark("begin", name), mark("end", name)
	before, rest, begins := strings.Cut(string(text), begin)
	between, after, ends := strings.Cut(rest, end)
	if !begins || !ends {
		t.Fatalf("%s: no lines %s and %s", file, begin, end)
	}
	return before + begin, between, end + after
}

func mark(what, name string) string { return fmt.Sprintf("<!-- %s %s -->\n", what, name) }

// difference lists the lines that only one of two texts has.
func difference(got, want string) string {
	var b strings.Builder
	only(&b, "-", got, want)
	only(&b, "+", want, got)
	return b.String()
}

func only(b *strings.Builder, sign, in, notIn string) {
	for line := range strings.Lines(in) {
		if !strings.Contains(notIn, line) {
			b.WriteString(sign + line)
		}
	}
}
