package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// captureNothing is a small exporter, for tests of the web alone.
var captureNothing = []string{"--capture.include=none", "--capture.memory=8MiB", "--capture.epoch=100ms"}

// inWeb runs a test in a namespace whose loopback is up, with the log of the program
// if it fails.
func inWeb(t *testing.T, test func(t *testing.T, log io.Writer)) {
	testutil.InNamespace(t, func(t *testing.T) {
		wire(t)
		file, err := os.Create(filepath.Join(t.TempDir(), "log"))
		must(t, err)
		t.Cleanup(func() {
			if log, _ := os.ReadFile(file.Name()); t.Failed() {
				t.Logf("%s", log)
			}
			file.Close()
		})
		test(t, file)
	})
}

// answers waits until a client gets the status, whatever it gets before.
func answers(t *testing.T, client *http.Client, url string, status int) {
	t.Helper()
	testutil.Eventually(t, 20*time.Second, fmt.Sprint(url, " answers ", status), func() bool {
		response, err := client.Get(url)
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == status
	})
}

func TestSeveralListenAddresses(t *testing.T) {
	inWeb(t, func(t *testing.T, log io.Writer) {
		exporter(t, log, append(captureNothing, "--web.listen-address=127.0.0.2:10020", "--web.listen-address=[::1]:10021")...)
		for _, address := range []string{testAddress, "127.0.0.2:10020", "[::1]:10021"} {
			answers(t, http.DefaultClient, "http://"+address+"/-/ready", http.StatusOK)
		}
	})
}

// An address that is taken ends the program with one line that says so.
func TestListenAddressTaken(t *testing.T) {
	inWeb(t, func(t *testing.T, _ io.Writer) {
		taken, err := net.Listen("tcp", testAddress)
		must(t, err)
		defer taken.Close()
		code, stdout, stderr := program(t, append(captureNothing, "--web.listen-address="+testAddress, "--log.level=error")...)
		want := "tma-exporter: listen tcp 127.0.0.1:10017: bind: address already in use\n"
		if code != 1 || stdout != "" || stderr != want {
			t.Errorf("exit code %d, output %q, errors %q; want 1 and %q", code, stdout, stderr, want)
		}
	})
}

// The socket is passed as systemd does (sd_listen_fds(3)), and no other is opened.
func TestSystemdSocket(t *testing.T) {
	inWeb(t, func(t *testing.T, log io.Writer) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		defer listener.Close()
		socket, err := listener.(*net.TCPListener).File()
		must(t, err)
		defer socket.Close()
		args := append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, os.Args[0], "--web.systemd-socket"}, captureNothing...)
		command := exec.Command("/bin/sh", args...)
		command.Env = append(os.Environ(), asProgram+"=1", "LISTEN_FDS=1")
		command.ExtraFiles, command.Stderr = []*os.File{socket}, log
		command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		must(t, command.Start())
		t.Cleanup(func() { command.Process.Kill(); command.Wait() })
		answers(t, http.DefaultClient, "http://"+listener.Addr().String()+"/-/ready", http.StatusOK)
		if connection, err := net.Dial("tcp", testAddress); err == nil {
			connection.Close()
			t.Error("it listens on its own address, too")
		}
	})
}

func TestTLSWithClientCertificates(t *testing.T) {
	inWeb(t, func(t *testing.T, log io.Writer) {
		ours, theirs := testutil.NewAuthority(t, "authority"), testutil.NewAuthority(t, "another")
		ours.Sign("server")
		file := filepath.Join(ours.Directory, "web.yml")
		must(t, os.WriteFile(file, []byte(`
tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: authority.crt
`), 0o600))
		exporter(t, log, append(captureNothing, "--web.config.file="+file)...)
		answers(t, ours.Client(ours), "https://"+testAddress+"/-/ready", http.StatusOK)
		answers(t, ours.Client(ours), "https://"+testAddress+"/metrics", http.StatusOK)
		for name, client := range map[string]*http.Client{
			"without a certificate": ours.Client(nil), "with another authority's": ours.Client(theirs),
		} {
			if response, err := client.Get("https://" + testAddress + "/-/healthy"); err == nil {
				response.Body.Close()
				t.Errorf("%s: %s", name, response.Status)
			}
		}
		answers(t, http.DefaultClient, testURL+"/-/healthy", http.StatusBadRequest) // not TLS
	})
}

// exporter-toolkit guards every path, those of health checks included.
func TestBasicAuthenticationGuardsEveryPath(t *testing.T) {
	inWeb(t, func(t *testing.T, log io.Writer) {
		file := filepath.Join(t.TempDir(), "web.yml")
		// The hash is bcrypt's, of "pass word", as cheap as it gets.
		must(t, os.WriteFile(file, []byte("basic_auth_users: {prometheus: $2a$04$Zk4RT3Ii.K2RZQdUw27Y0eoiVazyBD/P22i4BuORrecjciHJmyCFG}\n"), 0o600))
		exporter(t, log, append(captureNothing, "--web.enable-pprof", "--web.config.file="+file)...)
		answers(t, http.DefaultClient, testURL+"/-/healthy", http.StatusUnauthorized)
		answers(t, http.DefaultClient, "http://prometheus:pass%20word@"+testAddress+"/-/ready", http.StatusOK)
		for _, test := range []struct{ method, path string }{
			{"GET", "/"}, {"GET", "/metrics"}, {"GET", "/v1/epochs"}, {"GET", "/-/healthy"}, {"GET", "/-/ready"},
			{"POST", "/-/reload"}, {"GET", "/debug/pprof/"},
		} {
			for user, want := range map[string]int{
				"": http.StatusUnauthorized, "prometheus:wrong@": http.StatusUnauthorized, "else:pass%20word@": http.StatusUnauthorized,
				"prometheus:pass%20word@": http.StatusOK,
			} {
				if response, _ := ask(t, test.method, "http://"+user+testAddress+test.path); response.StatusCode != want {
					t.Errorf("%s %s as %q: %s", test.method, test.path, user, response.Status)
				}
			}
		}
		if response, _ := ask(t, http.MethodGet, testURL+"/nothing"); response.StatusCode != http.StatusUnauthorized {
			t.Errorf("a path that isn't there: %s", response.Status)
		}
	})
}

// --config.check looks at the file of the web server, too.
func TestCheckOfTheWebConfiguration(t *testing.T) {
	directory := t.TempDir()
	for name, test := range map[string]struct{ text, want string }{
		"right.yml":   {"basic_auth_users: {}\n", ""},
		"unknown.yml": {"basic_auth_user: {}\n", "yaml: unmarshal errors: line 1: field basic_auth_user not found in type web.Config"},
		"missing.yml": {"tls_server_config: {cert_file: none.crt, key_file: none.key}\n",
			"failed to read cert_file (" + directory + "/none.crt): open " + directory + "/none.crt: no such file or directory"},
	} {
		file := filepath.Join(directory, name)
		must(t, os.WriteFile(file, []byte(test.text), 0o600))
		code, stdout, stderr := program(t, "--config.check", "--web.config.file="+file)
		wantCode, wantOut, wantErr := 0, "tma-exporter: the configuration is right\n", ""
		if test.want != "" {
			wantCode, wantOut, wantErr = 1, "", "tma-exporter: --web.config.file: "+test.want+"\n"
		}
		if code != wantCode || stdout != wantOut || stderr != wantErr {
			t.Errorf("%s: exit code %d, output %q, errors %q; want %d, %q, %q", name, code, stdout, stderr, wantCode, wantOut, wantErr)
		}
	}
}

// The metrics are where they were told to be, by the program as it runs.
func TestTelemetryPath(t *testing.T) {
	inWeb(t, func(t *testing.T, log io.Writer) {
		exporter(t, log, append(captureNothing, "--web.telemetry-path=/a/b")...)
		ready(t)
		if body := get(t, "/a/b"); !strings.Contains(body, "tma_build_info") {
			t.Errorf("no metrics under /a/b: %s", body)
		}
		if body := get(t, "/"); !strings.Contains(body, `href="/a/b"`) {
			t.Errorf("no link in %s", body)
		}
		answers(t, http.DefaultClient, testURL+"/metrics", http.StatusNotFound)
	})
}
