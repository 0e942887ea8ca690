// Package plan is what the driver on this machine and the first process of a
// virtual machine tell each other: the plan goes in with the initial file system,
// the reports come back over the second serial port, as JSON, one a line.
package plan

// File is where the plan is in the virtual machine.
const File = "/plan.json"

// Plan is what the first process does before it switches the machine off.
type Plan struct {
	Modules  []string  `json:"modules"` // files to load, in this order
	Commands []Command `json:"commands"`
}

// Command is a program to run, one after the other.
type Command struct {
	Name        string   `json:"name"`
	Path        string   `json:"path"`
	Arguments   []string `json:"arguments"`
	Environment []string `json:"environment"`
}

// Report is one thing that the first process has to say. Only one of the fields
// beside Command is set.
type Report struct {
	Kernel  string `json:"kernel,omitempty"` // what `uname -rv` prints
	Error   string `json:"error,omitempty"`  // in the virtual machine itself
	Done    bool   `json:"done,omitempty"`   // the last report
	Command string `json:"command,omitempty"`
	Line    string `json:"line,omitempty"` // of the command's output
	Exit    *int   `json:"exit,omitempty"` // the command's code; -1 for a signal
}
