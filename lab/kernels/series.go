package main

import "regexp"

// series is a line of kernels of which the newest that can be had is tested.
type series struct {
	name    string
	pattern *regexp.Regexp // names of Debian's packages
	suite   string         // beside the machine's own, where the package is
	missing bool           // whether it may be that no package can be had
	// preempted says that without bpf/section.h runs of the program can interleave
	// on this kernel: what the load test sees then is noted.
	preempted bool
}

func debian(version, flavour string) *regexp.Regexp {
	return regexp.MustCompile(`^linux-image-` + regexp.QuoteMeta(version) + `\.[0-9]+(-[0-9]+|[+]deb[0-9.]+)` + flavour + `-amd64$`)
}

var all = []series{
	{name: "6.1", pattern: debian("6.1", "")},
	{name: "6.1-rt", pattern: debian("6.1", "-rt")},
	{name: "6.12", pattern: debian("6.12", ""), suite: "bookworm-backports"},
	{name: "6.12-rt", pattern: debian("6.12", "-rt"), suite: "bookworm-backports"},
	{name: "6.18-rt", pattern: debian("6.18", "-rt"), suite: "trixie-backports", missing: true, preempted: true},
}
