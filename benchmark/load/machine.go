package load

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is where a run took place.
type Machine struct {
	Kernel    string `json:"kernel"`
	Processor string `json:"processor"`
	CPUs      int    `json:"cpus"`
	JIT       string `json:"jit"` // net.core.bpf_jit_enable
}

func (m Machine) String() string {
	return fmt.Sprintf("Linux %s, %s, %d CPUs, JIT %s", m.Kernel, m.Processor, m.CPUs, m.JIT)
}

// ThisMachine describes the machine as far as it can be found out.
func ThisMachine() Machine {
	m := Machine{CPUs: runtime.NumCPU(), JIT: "unknown", Processor: runtime.GOARCH}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	if value, err := os.ReadFile("/proc/sys/net/core/bpf_jit_enable"); err == nil {
		m.JIT = strings.TrimSpace(string(value))
	}
	if model := processor(); model != "" {
		m.Processor = model
	}
	return m
}

// processor returns the first CPU's name and model number, "" if there is none.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	var name, model string
	for lines := bufio.NewScanner(f); lines.Scan() && (name == "" || model == ""); {
		key, value, _ := strings.Cut(lines.Text(), ":")
		switch strings.TrimSpace(key) {
		case "model name":
			name = strings.TrimSpace(value)
		case "model":
			model = strings.TrimSpace(value)
		}
	}
	if name == "" {
		return ""
	}
	return fmt.Sprintf("%s (model %s)", name, model)
}
