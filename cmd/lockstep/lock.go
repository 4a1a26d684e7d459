package main

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lockFile is held by the process that owns a state.
const lockFile = "lock"

// owned says whether another process owns the state at this moment.
func (a *app) owned() bool {
	f, err := os.Open(filepath.Join(a.state, lockFile))
	if err != nil {
		return false
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	return errors.Is(err, unix.EWOULDBLOCK)
}
