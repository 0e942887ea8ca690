package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// directory is where iproute2 keeps the names of namespaces, each a file on
// which the namespace is mounted.
const directory = "/run/netns"

// NewNamed makes a namespace under a name that `ip netns` knows. The error is
// fs.ErrExist if the name is taken.
func NewNamed(name string) (*Namespace, error) {
	n, err := New()
	if err != nil {
		return nil, err
	}
	n.name = name
	if err := n.mount(); err != nil {
		n.Close()
		return nil, fmt.Errorf("name network namespace %s: %w", name, err)
	}
	return n, nil
}

// Open returns a handle of the namespace with that name; the error is
// fs.ErrNotExist if there is none.
func Open(name string) (*Namespace, error) {
	handle, err := os.Open(path(name))
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	return &Namespace{name: name, handle: handle}, nil
}

// Exists says whether the name is taken, be it by the leftover of a program
// that was killed before the namespace was mounted on it.
func Exists(name string) bool {
	_, err := os.Lstat(path(name))
	return err == nil
}

// Remove takes the name away; it is no error if there is none. The namespace
// itself ends when the last handle is closed and the last process inside it
// has ended.
func Remove(name string) error {
	err := unix.Unmount(path(name), unix.MNT_DETACH)
	// EINVAL: nothing is mounted on the file, which then only needs deleting.
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unmount network namespace %s: %w", name, err)
	}
	if err := os.Remove(path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove network namespace: %w", err)
	}
	return nil
}

func (n *Namespace) mount() error {
	if err := shareDirectory(); err != nil {
		return err
	}
	f, err := os.OpenFile(path(n.name), os.O_CREATE|os.O_EXCL, 0)
	if err != nil {
		return err
	}
	f.Close()
	source := fmt.Sprintf("/proc/self/fd/%d", n.Fd())
	if err := unix.Mount(source, path(n.name), "", unix.MS_BIND, ""); err != nil {
		return errors.Join(err, os.Remove(path(n.name)))
	}
	return nil
}

// shareDirectory makes the directory a mount of its own that is shared with
// other mount namespaces, as `ip netns add` does. It must be one before the
// first name is mounted: iproute2 would mount it over itself later, and what
// was mounted before could no longer be reached to be removed.
func shareDirectory() error {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	lock, err := os.Open(directory)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	err = unix.Mount("", directory, "none", unix.MS_SHARED|unix.MS_REC, "")
	if !errors.Is(err, unix.EINVAL) { // EINVAL: it isn't a mount
		return err
	}
	if err := unix.Mount(directory, directory, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return unix.Mount("", directory, "none", unix.MS_SHARED|unix.MS_REC, "")
}

func path(name string) string { return filepath.Join(directory, name) }
