package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/traffic-monitor-agent/tma/internal/netns"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
	"github.com/traffic-monitor-agent/tma/lab/network"
	"github.com/traffic-monitor-agent/tma/lab/traffic"
)

// The test binary is the program too, where its first argument says so.
func TestMain(m *testing.M) {
	if os.Getenv("TMA_TEST_PROGRAM") != "" {
		main()
	}
	os.Exit(m.Run())
}

// put sends a body to /v1/mode and returns the answer.
func put(t *testing.T, url, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodPut, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return do(t, request)
}

func do(t *testing.T, request *http.Request) (int, string) {
	t.Helper()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

func mode(t *testing.T, url string) traffic.Mode {
	t.Helper()
	request, _ := http.NewRequest(http.MethodGet, url, nil)
	var state traffic.State
	if _, answer := do(t, request); json.Unmarshal([]byte(answer), &state) != nil || state.Error != "" {
		t.Fatalf("state %s", answer)
	}
	return state.Mode
}

// sentBy is what the Ethernet devices of a namespace have sent.
func sentBy(t *testing.T, in *netns.Namespace) (packets, bytes uint64) {
	t.Helper()
	err := in.Do(func() error {
		links, err := netlink.LinkList()
		for _, l := range links {
			if l.Type() == "veth" {
				packets += l.Attrs().Statistics.TxPackets
				bytes += l.Attrs().Statistics.TxBytes
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return packets, bytes
}

// Heavy traffic starts and ends on demand, and ends by itself; the written
// truth is that of both modes together, as the devices counted it.
func TestController(t *testing.T) {
	testutil.RequireRoot(t)
	c := network.DefaultConfiguration()
	c.Prefix = ""
	n, err := network.Up(c)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Down()
	host, truthFile := n.Namespace("host-a"), filepath.Join(t.TempDir(), "truth")
	packetsBefore, bytesBefore := sentBy(t, host)

	socket, address, err := netns.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "--controller", "--web.systemd-socket", "--duration=60s", "--rate=500", "--flows=20", "--ipv6-share=0",
		"--destination=172.25.20.3", "--destination=172.25.10.3", "--spoofed=198.18.0.0/16",
		"--heavy.duration=700ms", "--heavy.rate=10000", "--heavy.flows=1000", "--truth.file="+truthFile)
	cmd.Env = append(os.Environ(), "TMA_TEST_PROGRAM=1")
	cmd.Stderr = os.Stderr
	netns.PassListeners(cmd, socket)
	program, err := host.Start(cmd)
	socket.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer program.Stop(0)

	url := fmt.Sprintf("http://%s/v1/mode", address)
	testutil.Eventually(t, 5*time.Second, "normal traffic runs", func() bool {
		status, _ := put(t, url, `{"mode":"heavy"}`)
		return status == http.StatusOK
	})
	if got := mode(t, url); got != traffic.Heavy {
		t.Errorf("mode %s after heavy was asked for", got)
	}
	testutil.Eventually(t, 5*time.Second, "heavy traffic ends by itself", func() bool { return mode(t, url) == traffic.Normal })
	for _, m := range []traffic.Mode{traffic.Heavy, traffic.Normal} {
		if status, answer := put(t, url, fmt.Sprintf(`{"mode":%q}`, m)); status != http.StatusOK || mode(t, url) != m {
			t.Errorf("put %s: %d %s", m, status, answer)
		}
	}
	for body, want := range map[string]string{
		`{"mode":"x"}`:              `{"error":"\"x\" isn't a mode; allowed: normal, heavy","parameter":"mode"}`,
		`{"mode":"heavy","to":"x"}`: `{"error":"the body must be {\"mode\":\"normal\"} or {\"mode\":\"heavy\"}: json: unknown field \"to\"","parameter":"mode"}`,
	} {
		if status, answer := put(t, url, body); status != http.StatusBadRequest || answer != want+"\n" {
			t.Errorf("put %s: %d %s, want 400 %s", body, status, answer, want)
		}
	}

	if err := program.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := program.Wait(); err != nil {
		t.Fatal(err)
	}
	packets, bytes, spoofed := readTruth(t, truthFile)
	if p, b := sentBy(t, host); p-packetsBefore != packets || b-bytesBefore != bytes {
		t.Errorf("the devices counted %d packets, %d bytes; the truth is %d, %d", p-packetsBefore, b-bytesBefore, packets, bytes)
	}
	if spoofed < 500 {
		t.Errorf("%d flows from spoofed sources, want at least 500", spoofed)
	}
}

func readTruth(t *testing.T, file string) (packets, bytes uint64, spoofed int) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for decoder := json.NewDecoder(f); decoder.More(); {
		var line traffic.Truth
		if err := decoder.Decode(&line); err != nil {
			t.Fatal(err)
		}
		packets += line.Packets
		bytes += line.Bytes
		if netip.MustParsePrefix("198.18.0.0/16").Contains(line.Source) {
			spoofed++
		}
	}
	return packets, bytes, spoofed
}
