package main

import (
	"context"
	"net/http"
	"os"
	"strings"
	"testing"
)

// Names that the configuration gives are in the matrix and in its counters, and others
// are after a reload.
func TestNamedNetworks(t *testing.T) {
	exporter := exporterOf(t, "10.0.0.1", flowOf("10.0.0.1", "192.0.2.1", 9000))
	text := `
scrape_configs: [{job_name: test, static_configs: [{targets: ["` + strings.TrimPrefix(exporter.URL, "http://") + `"]}]}]
networks: [{prefix: 10.0.0.0/8, name: corp}, {prefix: 10.0.0.0/24, name: lab}]
`
	file := writeConfig(t, text)
	address := freeAddress(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"--config.file", file, "--web.listen-address", address, "--log.level", "error"})
	}()
	get(t, "http://"+address+"/v1/matrix", func(_ int, body string) bool {
		return strings.Contains(body, `"matrix":[{"source":"lab","destination":"unnamed","bytes":9000,"packets":90,"lower":9000,"upper":9000}]`)
	})
	get(t, "http://"+address+"/metrics", func(_ int, body string) bool {
		return strings.Contains(body, `tma_network_bytes_total{destination_network="unnamed",source_network="lab"} 9000`)
	})
	if err := os.WriteFile(file, []byte(strings.Replace(text, "lab", "yard", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	answer, err := http.Post("http://"+address+"/-/reload", "", nil)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatal(answer, err)
	}
	answer.Body.Close()
	get(t, "http://"+address+"/v1/matrix", func(_ int, body string) bool {
		return strings.Contains(body, `"matrix":[{"source":"yard","destination":"unnamed","bytes":9000,`)
	})
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
