package netns

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Processes returns the ids of the processes whose main thread is in the
// namespace. Processes that end meanwhile are left out.
func (n *Namespace) Processes() ([]int, error) {
	inside, err := n.handle.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at network namespace %s: %w", n.name, err)
	}
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return nil, err
	}
	var found []int
	for _, link := range links {
		info, err := os.Stat(link)
		if err != nil || !os.SameFile(info, inside) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(link))))
		if err != nil {
			return nil, err
		}
		found = append(found, pid)
	}
	return found, nil
}
