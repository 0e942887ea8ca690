package main

import (
	"fmt"
	"io"
)

// archive writes an initial file system: cpio's "new ASCII" format
// (Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	to     io.Writer
	inodes int
	err    error
}

const (
	modeFolder  = 0o040755
	modeProgram = 0o100755
	modeDevice  = 0o020600
)

func (a *archive) folder(name string) { a.entry(name, modeFolder, nil, 0, 0) }

func (a *archive) file(name string, content []byte) { a.entry(name, modeProgram, content, 0, 0) }

func (a *archive) device(name string, major, minor int) { a.entry(name, modeDevice, nil, major, minor) }

// close writes the end of the archive and returns the first error.
func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, nil, 0, 0)
	return a.err
}

// entry writes a header of 13 hexadecimal fields, the name and the content, each
// filled up to a multiple of four bytes.
func (a *archive) entry(name string, mode int, content []byte, major, minor int) {
	a.inodes++
	header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.inodes, mode, 0, 0, 1, 0, len(content), 0, 0, major, minor, len(name)+1, 0)
	a.padded([]byte(header + name + "\x00"))
	a.padded(content)
}

func (a *archive) padded(content []byte) {
	a.write(content)
	a.write(make([]byte, -len(content)&3))
}

func (a *archive) write(content []byte) {
	if a.err == nil {
		_, a.err = a.to.Write(content)
	}
}
