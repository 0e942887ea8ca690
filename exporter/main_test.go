package main

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/promslog"

	"github.com/traffic-monitor-agent/tma/exporter/config"
)

// asProgram makes the test binary run as the program.
const asProgram = "TMA_TEST_RUN_EXPORTER"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// program runs the program to its end.
func program(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0], args...)
	command.Env = append(os.Environ(), asProgram+"=1")
	var out, diagnostics bytes.Buffer
	command.Stdout, command.Stderr = &out, &diagnostics
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return command.ProcessState.ExitCode(), out.String(), diagnostics.String()
}

func TestWrongConfigurationIsOneLine(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"--config.file=config/testdata/invalid-unknown-key.yml",
			"tma-exporter: config/testdata/invalid-unknown-key.yml: capture.epcoh: unknown key; allowed: epoch, exclude, fleet, include, layer3, memory, pin_path\n"},
		{"--capture.epoch=1", "tma-exporter: --capture.epoch: \"1\" isn't a duration; allowed: a duration such as 500ms, 15s or 1h\n"},
		{"--capture.include=(", "tma-exporter: --capture.include: \"(\" isn't a regular expression (missing closing ): `(`); allowed: a regular expression (RE2) such as eth.*|bond0\n"},
	} {
		for _, args := range [][]string{{test.args}, {"--config.check", test.args}} {
			code, stdout, stderr := program(t, args...)
			if code != 1 || stdout != "" || stderr != test.want {
				t.Errorf("%v: exit code %d, output %q, errors %q; want 1 and %q", args, code, stdout, stderr, test.want)
			}
		}
	}
}

func TestCheckOnly(t *testing.T) {
	code, stdout, stderr := program(t, "--config.check", "--config.file=config/testdata/complete.yml")
	if code != 0 || stdout != "tma-exporter: the configuration is right\n" || stderr != "" {
		t.Errorf("exit code %d, output %q, errors %q", code, stdout, stderr)
	}
}

// One epoch through the sink shows in everything that is served.
func TestWhatIsServed(t *testing.T) {
	options, err := config.Parse([]string{"--web.telemetry-path=/telemetry"})
	if err != nil {
		t.Fatal(err)
	}
	w := unfedWindows(options)
	server := httptest.NewServer(site(t, w, options))
	defer server.Close()
	if response, _ := ask(t, http.MethodGet, server.URL+"/-/ready"); response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("ready before the first epoch: %s", response.Status)
	}
	w.sink(promslog.NewNopLogger())(sampleEpoch(), time.Millisecond)
	for _, test := range []struct {
		path string
		want []string
	}{
		{"/", []string{`href="/telemetry"`, `href="/v1/epochs"`}},
		{"/-/healthy", []string{"Healthy."}},
		{"/-/ready", []string{"Ready."}},
		{"/v1/epochs", []string{"host-a"}},
		{"/telemetry", []string{
			`tma_capture_bytes_total{device="eth0",direction="egress"} 15162`,
			`tma_service_bytes_per_second{port="443",protocol="tcp",service="https"} 15000`,
			`tma_capture_attached{device="eth0",direction="egress",hook="tcx"} 1`,
			"tma_config_last_reload_successful 1",
			"tma_build_info{", "go_goroutines ", "process_resident_memory_bytes ",
		}},
	} {
		response, body := ask(t, http.MethodGet, server.URL+test.path)
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", test.path, response.Status)
		}
		for _, want := range test.want {
			if !strings.Contains(body, want) {
				t.Errorf("%s: no %s in\n%s", test.path, want, body)
			}
		}
	}
}
