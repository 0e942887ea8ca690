package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// The hash is bcrypt's, of "pass word", as cheap as it gets.
const user = "prometheus: $2a$04$Zk4RT3Ii.K2RZQdUw27Y0eoiVazyBD/P22i4BuORrecjciHJmyCFG"

// guarded is an exporter that demands a certificate of the authority and a password.
func guarded(t *testing.T, a *testutil.Authority) (address string) {
	t.Helper()
	open := exporterOf(t, "10.0.0.1", flowOf("10.0.0.1", "10.0.0.2", 9000))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, password, _ := r.BasicAuth(); name != "prometheus" || password != "pass word" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		open.Config.Handler.ServeHTTP(w, r)
	}))
	a.Sign("exporter")
	certificate, err := tls.LoadX509KeyPair(filepath.Join(a.Directory, "exporter.crt"), filepath.Join(a.Directory, "exporter.key"))
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(filepath.Join(a.Directory, "authority.crt"))
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(pem)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// started runs the program, and ends it with the test.
func started(t *testing.T, arguments ...string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, append(arguments, "--log.level", "error")) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Both sides with TLS, client certificates and passwords: exporters are scraped with
// what their job has and no other's, and nothing is served without.
func TestSecurity(t *testing.T) {
	a, another := testutil.NewAuthority(t, "authority"), testutil.NewAuthority(t, "another")
	exporter := guarded(t, a)
	for _, name := range []string{"aggregator", "client"} {
		a.Sign(name)
	}
	write := func(directory, name, text string) string {
		file := filepath.Join(directory, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write(a.Directory, "password", "pass word\n")
	webFile := write(a.Directory, "web.yml", `
tls_server_config: {cert_file: aggregator.crt, key_file: aggregator.key, client_auth_type: RequireAndVerifyClientCert, client_ca_file: authority.crt}
basic_auth_users: {`+user+`}
`)
	// The same exporter under names of its own: what isn't right is a reason each.
	port := exporter[strings.LastIndex(exporter, ":"):]
	const right = `tls_config: {ca_file: authority.crt, cert_file: client.crt, key_file: client.key, server_name: 127.0.0.1}`
	file := write(a.Directory, "aggregator.yml", `
scrape_configs:
  - job_name: right
    scheme: https
    `+right+`
    basic_auth: {username: prometheus, password_file: password}
    static_configs: [{targets: ["127.0.0.1`+port+`"]}]
  - job_name: no-password
    scheme: https
    `+right+`
    static_configs: [{targets: ["127.0.0.2`+port+`"]}]
    relabel_configs: &here [{source_labels: [__address__], regex: (.*), replacement: "127.0.0.1`+port+`", target_label: __address__}, {source_labels: [job], replacement: "/$1", target_label: __epochs_path__}]
  - job_name: no-certificate
    scheme: https
    tls_config: {ca_file: authority.crt}
    static_configs: [{targets: ["127.0.0.2`+port+`"]}]
    relabel_configs: *here
  - job_name: another-authority
    scheme: https
    tls_config: {ca_file: `+another.Directory+`/another.crt}
    static_configs: [{targets: ["127.0.0.2`+port+`"]}]
    relabel_configs: *here
  - job_name: no-tls
    static_configs: [{targets: ["127.0.0.2`+port+`"]}]
    relabel_configs: *here
`)
	address := freeAddress(t)
	started(t, "--config.file", file, "--web.listen-address", address, "--web.config.file", webFile)

	client := a.Client(a)
	base := "https://prometheus:pass%20word@" + address
	getWith(t, client, base+"/metrics", func(_ int, body string) bool {
		for name, want := range map[string]string{
			port + `"} `: "tma_exporter_up", port + `/no-password",reason="status"} `: "tma_exporter_poll_errors_total",
			port + `/no-certificate",reason="certificate"} `:    "tma_exporter_poll_errors_total",
			port + `/another-authority",reason="certificate"} `: "tma_exporter_poll_errors_total",
			port + `/no-tls",reason="status"} `:                 "tma_exporter_poll_errors_total",
		} {
			if !strings.Contains(body, want+`{exporter="127.0.0.1`+name) {
				return false
			}
		}
		return strings.Contains(body, `tma_exporter_up{exporter="127.0.0.1`+port+`"} 1`)
	})
	for _, path := range []string{"/", "/metrics", "/v1/hhh", "/v1/exporters", "/v1/stream", "/-/ready", "/-/reload", "/nothing"} {
		answers(t, client, "https://"+address+path, http.StatusUnauthorized)
		answers(t, client, "https://prometheus:wrong@"+address+path, http.StatusUnauthorized)
		for name, stranger := range map[string]*http.Client{"without a certificate": a.Client(nil), "with another's": a.Client(another)} {
			if response, err := stranger.Get(base + path); err == nil {
				response.Body.Close()
				t.Errorf("%s %s: %s", path, name, response.Status)
			}
		}
	}
	answers(t, client, base+"/v1/exporters", http.StatusOK)
}

func answers(t *testing.T, client *http.Client, url string, want int) {
	t.Helper()
	response, err := client.Get(url)
	if err != nil {
		t.Errorf("%s: %v", url, err)
		return
	}
	response.Body.Close()
	if response.StatusCode != want {
		t.Errorf("%s: %s, want %d", url, response.Status, want)
	}
}

// An endless request costs the server a bounded time and memory.
func TestEndlessRequest(t *testing.T) {
	address := freeAddress(t)
	started(t, "--config.file", writeConfig(t, ""), "--web.listen-address", address)
	get(t, "http://"+address+"/-/healthy", func(status int, _ string) bool { return status == http.StatusOK })
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	sent := 0
	for line := []byte("GET / HTTP/1.1\r\n"); err == nil && sent < 64<<20; line = []byte("X: " + strings.Repeat("x", 1000) + "\r\n") {
		var n int
		n, err = connection.Write(line)
		sent += n
	}
	if err == nil {
		t.Errorf("%d bytes of headers were taken", sent)
	}
}
