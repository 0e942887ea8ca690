package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// errNoPackage says that no package of a series can be had.
var errNoPackage = errors.New("no package of it in apt's sources")

// keyring verifies Debian's archives.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// packages downloads Debian's packages with apt's own programs but with sources
// and state in a folder of their own: nothing is installed, and the machine's apt
// doesn't see them.
type packages struct {
	folder  string
	updated bool
}

// download puts the newest package of a series into a folder and returns its name
// and its file.
func (p *packages) download(s *series, folder string) (name, file string, err error) {
	if err := p.update(); err != nil {
		return "", "", err
	}
	if name, err = p.newest(s.pattern); err != nil {
		return "", "", err
	}
	command := p.apt("apt-get", "download", name)
	command.Dir = folder
	if _, err := output(command); err != nil {
		return "", "", err
	}
	files, err := filepath.Glob(filepath.Join(folder, name+"_*.deb"))
	if err != nil || len(files) != 1 {
		return "", "", fmt.Errorf("apt-get download %s left %d files (%v)", name, len(files), err)
	}
	return name, files[0], nil
}

// newest returns the package of the highest version.
func (p *packages) newest(pattern *regexp.Regexp) (string, error) {
	names, err := output(p.apt("apt-cache", "pkgnames", "linux-image-"))
	if err != nil {
		return "", err
	}
	found := slices.DeleteFunc(strings.Fields(names), func(name string) bool { return !pattern.MatchString(name) })
	slices.SortFunc(found, func(a, b string) int { return slices.Compare(numbers(b), numbers(a)) })
	for _, name := range found {
		versions, err := output(p.apt("apt-cache", "madison", name))
		if err == nil && strings.TrimSpace(versions) != "" {
			return name, nil
		}
	}
	return "", errNoPackage
}

var digits = regexp.MustCompile(`[0-9]+`)

// numbers are all the numbers in a package's name, which order versions.
func numbers(name string) []int {
	var list []int
	for _, each := range digits.FindAllString(name, -1) {
		n, _ := strconv.Atoi(each) // digits
		list = append(list, n)
	}
	return list
}

// update reads the lists of the machine's Debian archives and of the suites that
// the series name, once.
func (p *packages) update() error {
	if p.updated {
		return nil
	}
	sources, err := p.sources()
	if err != nil {
		return err
	}
	for _, folder := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(p.folder, folder), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(p.folder, "sources.list"), []byte(sources), 0o644); err != nil {
		return err
	}
	// It also fails for a suite that the archive doesn't have; what that leaves
	// missing is found out when a package is looked for.
	_, err = output(p.apt("apt-get", "update"))
	p.updated = true
	if lists, _ := filepath.Glob(filepath.Join(p.folder, "lists", "*_Packages*")); len(lists) == 0 {
		return fmt.Errorf("apt-get update got no list of packages: %w", err)
	}
	return nil
}

// sources is a sources.list of the archives that the machine's apt has from
// Debian, with the suites of the series beside its own.
func (p *packages) sources() (string, error) {
	targets, err := output(exec.Command("apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI) $(CODENAME)", "Created-By: Packages"))
	if err != nil {
		return "", err
	}
	lines := map[string]bool{}
	for _, target := range strings.Split(targets, "\n") {
		fields := strings.Fields(target)
		if len(fields) != 3 || fields[0] != "Debian" {
			continue
		}
		suites := []string{fields[2]}
		if !strings.Contains(fields[2], "-") {
			for i := range all {
				suites = append(suites, all[i].suite)
			}
		}
		for _, suite := range suites {
			if suite != "" {
				lines[fmt.Sprintf("deb [signed-by=%s] %s %s main\n", keyring, fields[1], suite)] = true
			}
		}
	}
	if len(lines) == 0 {
		return "", errors.New("this machine's apt has no archive of Debian's, from which the kernels would come")
	}
	var list strings.Builder
	for line := range lines {
		list.WriteString(line)
	}
	return list.String(), nil
}

// apt is a call of one of apt's programs with the folder's state.
func (p *packages) apt(program string, arguments ...string) *exec.Cmd {
	options := []string{
		"-o", "Dir::Etc::sourcelist=" + filepath.Join(p.folder, "sources.list"),
		"-o", "Dir::Etc::sourceparts=/dev/null",
		"-o", "Dir::State::lists=" + filepath.Join(p.folder, "lists"),
		"-o", "Dir::Cache=" + filepath.Join(p.folder, "cache"),
		"-o", "APT::Sandbox::User=root", // the folder may be root's alone
	}
	return exec.Command(program, append(options, arguments...)...)
}

// output runs a command and returns what it prints; its error has the last line
// that it printed as an error.
func output(command *exec.Cmd) (string, error) {
	var failure strings.Builder
	command.Stderr = &failure
	printed, err := command.Output()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(failure.String()), "\n")
		return "", fmt.Errorf("%s: %w: %s", strings.Join(command.Args, " "), err, lines[len(lines)-1])
	}
	return string(printed), nil
}
