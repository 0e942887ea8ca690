package testutil

import (
	"io/fs"
	"os"
	"path/filepath"
)

// NoteSources looks at every file of the directories. A test that builds a program by
// `go build` calls it with the program's sources: go test takes a result from its cache
// unless a file changed at which the test itself has looked.
func NoteSources(directories ...string) error {
	for _, directory := range directories {
		err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			_, err = os.Stat(path)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
