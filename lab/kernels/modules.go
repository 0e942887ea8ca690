package main

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// needed are the modules that the tests use, where a kernel doesn't have them
// built in.
var needed = []string{
	"veth", "dummy", "bridge", "bonding", "8021q", "macvlan", "ipvlan", "tun", "af_packet",
	"sch_ingress", "cls_bpf", "cls_matchall", "act_gact", "act_mirred",
}

// module is a kernel module, uncompressed.
type module struct {
	name    string
	content []byte
}

// loader gathers modules in the order in which they can be loaded.
type loader struct {
	files   map[string]string // of each module's name
	builtin map[string]bool
	loaded  []module
}

// modulesOf reads the needed modules of a kernel, those first that others need.
func modulesOf(i *image) ([]module, error) {
	l := &loader{files: map[string]string{}, builtin: map[string]bool{}}
	files, err := filepath.Glob(filepath.Join(i.modules(), "*.ko*"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		l.files[moduleName(file)] = file
	}
	list, err := os.ReadFile(filepath.Join(i.modules(), "modules.builtin"))
	if err != nil {
		return nil, err
	}
	for _, path := range strings.Fields(string(list)) {
		l.builtin[moduleName(path)] = true
	}
	for _, name := range needed {
		if err := l.add(name); err != nil {
			return nil, err
		}
	}
	return l.loaded, nil
}

// moduleName is a module's name by its file's, in which - may stand for _.
func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// add adds a module behind those that it depends on.
func (l *loader) add(name string) error {
	if l.builtin[name] || slices.ContainsFunc(l.loaded, func(m module) bool { return m.name == name }) {
		return nil
	}
	file, ok := l.files[name]
	if !ok {
		return fmt.Errorf("the kernel's package has no module %s", name)
	}
	content, err := readModule(file)
	if err != nil {
		return err
	}
	depends, err := dependencies(content)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, each := range depends {
		if err := l.add(each); err != nil {
			return fmt.Errorf("%s needs %s: %w", name, each, err)
		}
	}
	l.loaded = append(l.loaded, module{name, content})
	return nil
}

func readModule(file string) ([]byte, error) {
	if strings.HasSuffix(file, ".xz") {
		return exec.Command("xz", "-dc", file).Output()
	}
	return os.ReadFile(file)
}

// dependencies are the names after depends= in a module's .modinfo section, where
// strings end with a zero.
func dependencies(content []byte) ([]string, error) {
	file, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("no section .modinfo")
	}
	information, err := section.Data()
	if err != nil {
		return nil, err
	}
	for _, each := range strings.Split(string(information), "\x00") {
		if list, ok := strings.CutPrefix(each, "depends="); ok && list != "" {
			return strings.Split(strings.ReplaceAll(list, "-", "_"), ","), nil
		}
	}
	return nil, nil
}
