package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"github.com/traffic-monitor-agent/tma/lab/kernels/plan"
)

// programs are what the virtual machines run: /init and the files of /bin.
type programs struct {
	init string
	bin  []string
}

// writeFilesystem makes the initial file system of a kernel, in which the plan's
// modules are the image's.
func writeFilesystem(file string, i *image, p *programs, commands []plan.Command) error {
	modules, err := modulesOf(i)
	if err != nil {
		return err
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	buffered := bufio.NewWriter(out)
	a := &archive{to: buffered}
	for _, name := range []string{"bin", "dev", "proc", "sys", "tmp", "run", "modules"} {
		a.folder(name)
	}
	a.device("dev/console", 5, 1)
	contents := plan.Plan{Commands: commands}
	for _, m := range modules {
		name := "modules/" + m.name + ".ko"
		a.file(name, m.content)
		contents.Modules = append(contents.Modules, "/"+name)
	}
	encoded, err := json.Marshal(contents)
	if err != nil {
		return err
	}
	a.file(plan.File[1:], encoded)
	if err := p.add(a); err != nil {
		return err
	}
	return errors.Join(a.close(), buffered.Flush(), out.Close())
}

func (p *programs) add(a *archive) error {
	files := map[string]string{"init": p.init}
	for _, path := range p.bin {
		files["bin/"+filepath.Base(path)] = path
	}
	for name, path := range files {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		a.file(name, content)
	}
	return nil
}
