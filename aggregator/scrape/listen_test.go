package scrape

import (
	"net"
	"testing"
)

// listenAgain listens on an address that was just given up.
func listenAgain(t *testing.T, address string) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}
