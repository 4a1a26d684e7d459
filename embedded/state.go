package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// StateFormat is the version of the layout of a state folder. A state of
// another version is refused, never half read.
const StateFormat = 1

// ErrInUse says that another process owns the state.
var ErrInUse = errors.New("another process owns the state")

// stateFile says what a state folder is.
type stateFile struct {
	Format  int    `json:"format"`
	Project string `json:"project"`
}

// openState makes or checks a state folder, and locks it until unlock.
func openState(dir, project string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the state folder %s: %w: give a folder that can be written with --state", dir, err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the state folder %s: %w: make it writable, or give another with --state", dir, err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("cannot open the state %s: %w: stop it, or use another state with --state", dir, ErrInUse)
		}
		return nil, fmt.Errorf("cannot lock the state folder %s: %w", dir, err)
	}
	if err := checkState(dir, project); err != nil {
		lock.Close()
		return nil, err
	}
	return func() { lock.Close() }, nil
}

func checkState(dir, project string) error {
	path := filepath.Join(dir, "state.json")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := emptyState(dir); err != nil {
			return err
		}
		text, _ := json.Marshal(stateFile{StateFormat, project})
		if err := os.WriteFile(path+".tmp", append(text, '\n'), 0o644); err != nil {
			return fmt.Errorf("cannot write %s: %w", path, err)
		}
		return os.Rename(path+".tmp", path)
	}
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", path, err)
	}
	var f stateFile
	if err := json.Unmarshal(text, &f); err != nil || f.Format == 0 {
		return fmt.Errorf("cannot read %s: it is damaged: restore it (format %d, project %q) or start over with `lockstep reset`", path, StateFormat, project)
	}
	if f.Format != StateFormat {
		return fmt.Errorf("cannot open the state %s: its format is %d and this binary reads %d: use the version of Lockstep that wrote it, or start over with `lockstep reset`", dir, f.Format, StateFormat)
	}
	if f.Project != project {
		return fmt.Errorf("cannot open the state %s: it belongs to project %s, not %s: give another folder with --state", dir, f.Project, project)
	}
	return nil
}

// emptyState refuses a folder that holds something else.
func emptyState(dir string) error {
	for _, part := range []string{"log", "lake", "speed", "ingest"} {
		if _, err := os.Stat(filepath.Join(dir, part)); err == nil {
			return fmt.Errorf("cannot open the state %s: it has a folder %s but no state.json: restore the file, or start over with `lockstep reset`", dir, part)
		}
	}
	return nil
}
