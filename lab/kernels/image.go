package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// image is a kernel that has been unpacked: its own file and its modules.
type image struct {
	series *series
	folder string
}

func (i *image) kernel() string  { return filepath.Join(i.folder, "vmlinuz") }
func (i *image) modules() string { return filepath.Join(i.folder, "modules") }

// obtain returns the image from the cache, or downloads it there.
func obtain(s *series, cache string, p *packages) (*image, error) {
	i := &image{series: s, folder: filepath.Join(cache, s.name)}
	if _, err := os.Stat(i.kernel()); err == nil {
		return i, nil
	}
	// Under another name until it is complete.
	unfinished, err := os.MkdirTemp(cache, s.name+".unfinished-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(unfinished)
	name, file, err := p.download(s, unfinished)
	if err != nil {
		return nil, err
	}
	if err := unpack(file, unfinished); err != nil {
		return nil, fmt.Errorf("unpack %s: %w", name, err)
	}
	return i, errors.Join(os.Remove(file), os.Rename(unfinished, i.folder))
}

// unpack takes the kernel and the modules that concern networks from a package.
func unpack(file, folder string) error {
	command := exec.Command("dpkg-deb", "--fsys-tarfile", file)
	stream, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	err = extract(tar.NewReader(stream), folder)
	if err == nil {
		_, err = io.Copy(io.Discard, stream)
	}
	if err != nil {
		_ = command.Process.Kill()
	}
	return errors.Join(err, command.Wait())
}

func extract(archive *tar.Reader, folder string) error {
	for {
		header, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if name := wanted(header.Name); name != "" && header.Typeflag == tar.TypeReg {
			if err := write(filepath.Join(folder, name), archive); err != nil {
				return err
			}
		}
	}
}

// wanted returns the name under which a file of the package is kept, "" if it
// isn't.
func wanted(path string) string {
	base := filepath.Base(path)
	if strings.HasPrefix(base, "vmlinuz-") {
		return "vmlinuz"
	}
	if base == "modules.builtin" || strings.Contains(base, ".ko") && (strings.Contains(path, "/kernel/net/") ||
		strings.Contains(path, "/kernel/drivers/net/") || strings.Contains(path, "/kernel/lib/")) {
		return filepath.Join("modules", base)
	}
	return ""
}

func write(path string, content io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Close())
}
