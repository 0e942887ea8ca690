// Command kernels runs the capture's tests, and the exporter, on several Linux
// kernels: Debian's packages, each in a virtual machine without network or disk,
// emulated by software. It prints a line a kernel and test and exits with 1 if one
// fails.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/traffic-monitor-agent/tma/lab/kernels/plan"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// allKernels matches every name.
const allKernels = ".*"

// configuration is what the flags say.
type configuration struct {
	cache    string
	programs string
	only     *regexp.Regexp
	limit    time.Duration
	page     string
	update   bool
}

func run(args []string, out, failures io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	c, err := parse(args)
	if err == nil {
		err = test(ctx, c, out)
	}
	if err != nil {
		fmt.Fprintln(failures, "kernels:", err)
		return 1
	}
	return 0
}

func parse(args []string) (*configuration, error) {
	c := &configuration{}
	app := kingpin.New("kernels", "Runs tests on several Linux kernels, in virtual machines.")
	app.Flag("cache", "Directory that keeps the kernels; by default in the user's cache directory.").StringVar(&c.cache)
	app.Flag("programs", "Directory with init, capture.test and tma-exporter, linked statically.").Default("bin/kernels").StringVar(&c.programs)
	app.Flag("only", "The kernels whose names match as a whole.").Default(allKernels).RegexpVar(&c.only)
	app.Flag("limit", "How long a kernel's tests may take.").Default("5m").DurationVar(&c.limit)
	app.Flag("page", "The page with the verifier's figures.").Default("docs/kernel-support.md").StringVar(&c.page)
	app.Flag("update", "Write the figures into the page instead of comparing them.").BoolVar(&c.update)
	if _, err := app.Parse(args); err != nil {
		return nil, err
	}
	if c.update && c.only.String() != allKernels {
		return nil, errors.New("--update writes the figures of all kernels: not with --only")
	}
	if c.cache == "" {
		folder, err := os.UserCacheDir()
		if err != nil {
			return nil, err
		}
		c.cache = filepath.Join(folder, "tma", "kernels")
	}
	return c, os.MkdirAll(c.cache, 0o755)
}

const (
	commandTests       = "tests"
	commandUnprotected = "unprotected"
)

// tests are those of exporter/capture that virtual machines run. They take no files
// and end, on an emulated CPU, within seconds.
const tests = "^(TestLoad|TestOnePoint.*|TestVerifier|TestSection.*|TestExporter|TestPacketsWithKey|TestPacketsWithoutKeyHaveAReason|TestLayer3|TestSegments|TestTagsInMetadataCount|TestFollowsInterfaces)$"

// commands are what a kernel is tested by.
func commands(s *series) []plan.Command {
	environment := []string{"CI=true", "TMA_EXPORTER=/bin/tma-exporter"}
	list := []plan.Command{{
		Name: commandTests, Path: "/bin/capture.test", Environment: environment,
		Arguments: []string{"-test.v", "-test.count=1", "-test.run=" + tests},
	}}
	if s.preempted {
		list = append(list, plan.Command{
			Name: commandUnprotected, Path: "/bin/capture.test",
			Environment: append(environment, "TMA_LOAD_UNPROTECTED=1"),
			Arguments:   []string{"-test.v", "-test.count=5", "-test.failfast", "-test.run=^TestLoad$/^evicting_cache$"},
		})
	}
	return list
}

// test tests all kernels and compares the page.
func test(ctx context.Context, c *configuration, out io.Writer) error {
	p := &packages{folder: filepath.Join(c.cache, "apt")}
	var done []*results
	failures := 0
	for i := range all {
		s := &all[i]
		if c.only.FindString(s.name) != s.name {
			continue
		}
		r := newResults(s, out)
		start := time.Now()
		err := r.testKernel(ctx, c, p)
		switch {
		case errors.Is(err, errNoPackage) && s.missing:
			r.line("none", err.Error())
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			r.fail("virtual machine", err.Error())
		}
		r.line("done", fmt.Sprintf("%d passed, %d failed, %.0f s", r.passed, r.failures, time.Since(start).Seconds()))
		failures += r.failures
		done = append(done, r)
	}
	if failures > 0 {
		return fmt.Errorf("%d failures", failures)
	}
	return c.compare(done)
}

// testKernel tests one kernel.
func (r *results) testKernel(ctx context.Context, c *configuration, p *packages) error {
	i, err := obtain(r.series, c.cache, p)
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "tma-kernels-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	m := &machine{
		kernel:     i.kernel(),
		filesystem: filepath.Join(folder, "filesystem.cpio"),
		console:    filepath.Join(folder, "console"),
		limit:      c.limit,
	}
	list := commands(r.series)
	bin := []string{filepath.Join(c.programs, "capture.test"), filepath.Join(c.programs, "tma-exporter")}
	if err := writeFilesystem(m.filesystem, i, &programs{init: filepath.Join(c.programs, "init"), bin: bin}, list); err != nil {
		return err
	}
	err = m.run(ctx, r.take)
	if err != nil && ctx.Err() == nil {
		r.printConsole(m.console)
	}
	r.finish(list)
	return err
}

// printConsole shows what the kernel printed.
func (r *results) printConsole(file string) {
	content, err := os.ReadFile(file)
	if err == nil {
		fmt.Fprintf(r.out, "%s\n", content)
	}
}
