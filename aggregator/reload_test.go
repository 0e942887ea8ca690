package main

import (
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
)

// SIGHUP and POST /-/reload take other targets over, while those that stay are read on;
// what is wrong, or needs a restart, leaves everything as it is and says why.
func TestReload(t *testing.T) {
	a := strings.TrimPrefix(exporterOf(t, "10.0.0.1", flowOf("10.0.0.1", "10.0.0.9", 1000)).URL, "http://")
	b := strings.TrimPrefix(exporterOf(t, "10.0.0.2", flowOf("10.0.0.2", "10.0.0.9", 1000)).URL, "http://")
	with := func(targets string) string {
		return "scrape_configs: [{job_name: test, static_configs: [{targets: [" + targets + "]}]}]\n"
	}
	file := writeConfig(t, with(a))
	address := freeAddress(t)
	started(t, "--config.file", file, "--web.listen-address", address)
	base := "http://" + address
	scraped := func(want ...string) {
		t.Helper()
		get(t, base+"/metrics", func(_ int, body string) bool {
			for _, line := range want {
				if !strings.Contains(body, "\n"+line) {
					return false
				}
			}
			return true
		})
	}
	up := func(target string) string { return `tma_exporter_up{exporter="` + target + `"} 1` }
	scraped(up(a), "tma_config_last_reload_successful 1")

	rewrite(t, file, with(a+","+b))
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	scraped(up(a), up(b))

	for text, want := range map[string]string{
		with("nonsense"):            file + `: scrape_configs[0].static_configs[0].targets[0]: "nonsense" isn't a target; allowed: host:port such as 10.0.0.1:10017`,
		with(a) + "hhh: {phi: 0.5}": file + `: hhh.phi: can't change from "0.01" to "0.5" while the aggregator runs; restart it`,
		with(a) + "retentio: 5m":    file + `: retentio: unknown key; allowed: cardinality, global, hhh, limits, networks, retention, scrape_configs`,
	} {
		rewrite(t, file, text)
		post(t, base+"/-/reload", http.StatusInternalServerError, want+"\n")
		scraped(up(a), up(b), "tma_config_last_reload_successful 0")
	}

	rewrite(t, file, with(b))
	post(t, base+"/-/reload", http.StatusOK, "Reloaded.\n")
	get(t, base+"/metrics", func(_ int, body string) bool {
		return strings.Contains(body, up(b)) && !strings.Contains(body, `"`+a+`"`) && strings.Contains(body, "\ntma_config_last_reload_successful 1")
	})
	answers(t, http.DefaultClient, base+"/-/reload", http.StatusMethodNotAllowed)
}

func rewrite(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func post(t *testing.T, url string, status int, want string) {
	t.Helper()
	response, err := http.Post(url, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); response.StatusCode != status || string(body) != want {
		t.Errorf("status %d %q, want %d %q", response.StatusCode, body, status, want)
	}
}
