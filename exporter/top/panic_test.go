package top

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// panicsIn makes the test binary show a screen that panics, in what it names.
const panicsIn = "TMA_TEST_TOP_PANICS_IN"

func TestMain(m *testing.M) {
	if where := os.Getenv(panicsIn); where != "" {
		os.Exit(screenThatPanics(where))
	}
	os.Exit(m.Run())
}

func screenThatPanics(where string) int {
	t, err := newTop(&Configuration{
		URL: "localhost:1", Interval: time.Second, Window: "10s", By: "flows", Sort: "bytes", Units: "bits",
	})
	if err == nil {
		switch where {
		case "a command":
			t.feed.client.Transport = panicking{}
		case "the model":
			t.now = func() time.Time { panic("as wanted") }
			t.feed.client.Transport = answering{}
		}
		err = t.screen(context.Background(), os.Stdout)
	}
	fmt.Fprintln(os.Stderr, "ended:", err)
	return 1
}

// panicking is a transport; the wait lets the screen be drawn before.
type panicking struct{}

func (panicking) RoundTrip(*http.Request) (*http.Response, error) {
	time.Sleep(200 * time.Millisecond)
	panic("as wanted")
}

// answering is a transport to an exporter without epochs.
type answering struct{}

func (answering) RoundTrip(*http.Request) (*http.Response, error) {
	time.Sleep(200 * time.Millisecond)
	batch := bytes.NewReader(epoch.EncodeBatch([16]byte{1}, 0, 0, nil))
	header := http.Header{"Content-Type": {"application/x-protobuf"}}
	return &http.Response{StatusCode: http.StatusOK, Header: header, Body: io.NopCloser(batch)}, nil
}

func TestPanicRestoresTheTerminal(t *testing.T) {
	for _, where := range []string{"a command", "the model"} {
		ours, theirs, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		before, err := unix.IoctlGetTermios(int(theirs.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		command := exec.CommandContext(ctx, os.Args[0])
		command.Env = append(os.Environ(), panicsIn+"="+where, "TERM=xterm-256color")
		command.Stdin, command.Stdout, command.Stderr = theirs, theirs, theirs
		command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		written := make(chan []byte)
		go func() {
			var all bytes.Buffer
			io.Copy(&all, ours) // ends with an error when nobody has the other end
			written <- all.Bytes()
		}()
		command.Wait()
		after, err := unix.IoctlGetTermios(int(theirs.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		theirs.Close()
		text := string(<-written)
		ours.Close()
		if !strings.Contains(text, "as wanted") || !strings.Contains(text, "ended: the screen ended by a panic") {
			t.Errorf("%s: no panic was reported: %q", where, text)
		}
		if *after != *before || strings.LastIndex(text, "\x1b[?1049h") > strings.LastIndex(text, "\x1b[?1049l") {
			t.Errorf("a panic in %s leaves the terminal as %+v, it was %+v:\n%q", where, *after, *before, text)
		}
	}
}
