package broker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// prepareDir makes the data directory, checks that it can be written, and locks
// it for this process. Closing the file gives the lock back, as does the end of
// the process.
func prepareDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the log's directory %s: %w: choose a state directory that can be written", dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot write to the log's directory %s: %w: make it writable for this user, or choose another state directory", dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("cannot open the log in %s: another process has it open: stop that one, or use another state directory", dir)
		}
		return nil, fmt.Errorf("cannot lock the log's directory %s: %w", dir, err)
	}
	return f, nil
}
