package netns

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
)

// Listen opens a listening TCP socket in the caller's namespace, to be passed
// to a program that runs in another one: a socket stays in the namespace where
// it was made, whoever accepts from it. The caller closes the file.
func Listen(address string) (*os.File, net.Addr, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, nil, err
	}
	defer listener.Close()
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		return nil, nil, fmt.Errorf("duplicate the socket of %s: %w", address, err)
	}
	return file, listener.Addr(), nil
}

// PassListeners makes the command inherit the listening sockets by systemd's
// protocol (sd_listen_fds(3)): descriptors from 3 on, their number in
// LISTEN_FDS. LISTEN_PID must be the process's own id, which only the child
// knows, hence the shell that writes it and then becomes the program. It
// replaces the command's ExtraFiles.
func PassListeners(cmd *exec.Cmd, listeners ...*os.File) {
	cmd.ExtraFiles = listeners
	cmd.Env = append(cmd.Environ(), "LISTEN_FDS="+strconv.Itoa(len(listeners)))
	program := append([]string{cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	cmd.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`}, program...)
}
