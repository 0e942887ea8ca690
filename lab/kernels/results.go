package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/traffic-monitor-agent/tma/lab/kernels/plan"
)

// results are those of one kernel, printed as they come.
type results struct {
	series   *series
	out      io.Writer
	failures int
	passed   int
	kernel   string
	figures  []figures
	output   map[string][]string // of each command
	ended    map[string]int      // code of each command
}

func newResults(s *series, out io.Writer) *results {
	return &results{series: s, out: out, output: map[string][]string{}, ended: map[string]int{}}
}

// verdict is a line by which the testing package ends a test, not one of its parts.
var verdict = regexp.MustCompile(`^--- (PASS|FAIL|SKIP): (\S+) (\(.*\))$`)

func (r *results) line(state, what string, details ...string) {
	fmt.Fprintln(r.out, strings.TrimRight(fmt.Sprintf("%-8s %-4s %s %s", r.series.name, state, what, strings.Join(details, " ")), " \n"))
}

func (r *results) fail(what string, details ...string) {
	r.failures++
	r.line("FAIL", what, details...)
}

// take books a report.
func (r *results) take(report plan.Report) {
	switch {
	case report.Kernel != "":
		r.kernel = report.Kernel
		r.line("boot", report.Kernel)
	case report.Error != "":
		r.fail("virtual machine", report.Error)
	case report.Exit != nil:
		r.ended[report.Command] = *report.Exit
		r.exit(report.Command, *report.Exit)
	case report.Line != "":
		r.output[report.Command] = append(r.output[report.Command], report.Line)
		r.test(report.Command, report.Line)
	}
}

// test books a line of a command's output. Nothing may be skipped: everything that
// a test may want is there.
func (r *results) test(command, line string) {
	if f, ok := parseFigures(line); ok {
		r.figures = append(r.figures, f)
	}
	match := verdict.FindStringSubmatch(line)
	if match == nil || command == commandUnprotected {
		return
	}
	state, name, duration := match[1], match[2], match[3]
	if state == "PASS" {
		r.passed++
		r.line("ok", name, duration)
		return
	}
	r.fail(name, state, duration)
}

// exit judges a command. What the one without protection saw is noted, neither as
// passed nor as failed: whether runs interleave at the one moment that an emulated
// CPU shows is chance.
func (r *results) exit(command string, code int) {
	if command != commandUnprotected {
		if code != 0 {
			r.fail(command, fmt.Sprintf("exit code %d", code))
			r.print(command)
		}
		return
	}
	wrong := regexp.MustCompile(`[0-9]+ of [0-9]+ flows are wrong.*`).FindString(strings.Join(r.output[command], "\n"))
	switch {
	case code == 1 && wrong != "":
		r.line("note", "TestLoad fails without protection:", wrong)
	case code == 0:
		r.line("note", "TestLoad did not see runs interleave without protection")
	default:
		r.fail(command, fmt.Sprintf("exit code %d", code))
		r.print(command)
	}
}

// print shows a command's output, but for what says that something is in order.
func (r *results) print(command string) {
	for _, line := range r.output[command] {
		if strings.Contains(line, "=== RUN ") || strings.Contains(line, "--- PASS: ") {
			continue
		}
		fmt.Fprintf(r.out, "%-8s      | %s\n", r.series.name, line)
	}
}

// finish fails if a command didn't end.
func (r *results) finish(commands []plan.Command) {
	for i := range commands {
		if _, ok := r.ended[commands[i].Name]; !ok {
			r.fail(commands[i].Name, "didn't end")
			r.print(commands[i].Name)
		}
	}
	if r.passed == 0 {
		r.fail("no test passed")
	}
}
