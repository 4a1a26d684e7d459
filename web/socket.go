package web

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// ErrNotRunning says that no instance owns a state.
var ErrNotRunning = errors.New("no instance runs")

const (
	socketFile = "lockstep.sock"
	// socketPathFile holds the socket's path where the state folder's own path
	// is too long for one.
	socketPathFile = "lockstep.sock.path"
	// The address of a socket holds 104 bytes on macOS and BSD, 108 on Linux.
	maxSocketPath = 103
)

// ListenSocket listens for other commands on a state folder. The caller must
// hold the state's lock: whatever socket lies there is then stale and replaced.
func ListenSocket(state string) (net.Listener, error) {
	full, err := filepath.Abs(filepath.Join(state, socketFile))
	if err != nil {
		return nil, fmt.Errorf("cannot name the socket of %s: %w", state, err)
	}
	note := filepath.Join(state, socketPathFile)
	if err := remove(full, note); err != nil {
		return nil, fmt.Errorf("cannot remove an old socket: %w", err)
	}
	if len(full) > maxSocketPath {
		if full, err = shortSocket(full); err != nil {
			return nil, err
		}
		if err := os.WriteFile(note, []byte(full+"\n"), 0o600); err != nil {
			return nil, fmt.Errorf("cannot note where the socket is: %w", err)
		}
	}
	l, err := net.Listen("unix", full)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on the socket of the state: %w", err)
	}
	if err := os.Chmod(full, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("cannot protect the socket of the state: %w", err)
	}
	return l, nil
}

// shortSocket gives a path in a folder of our own under the system's folder
// for temporary files, so that nobody else can put a socket there.
func shortSocket(full string) (string, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("lockstep-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("cannot make a folder for the socket: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", fmt.Errorf("cannot make a folder for the socket: %w", err)
	}
	if !info.IsDir() || info.Mode().Perm() != 0o700 {
		return "", fmt.Errorf("cannot use %s for the socket: it is not a folder that only you can open; remove it, or use a shorter --state path", dir)
	}
	sum := sha256.Sum256([]byte(full))
	path := filepath.Join(dir, fmt.Sprintf("%x.sock", sum[:8]))
	if err := remove(path); err != nil {
		return "", fmt.Errorf("cannot remove an old socket: %w", err)
	}
	return path, nil
}

func remove(paths ...string) error {
	for _, p := range paths {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// socketOf finds the socket of a state folder; there may be nobody behind it.
func socketOf(state string) (string, error) {
	note, err := os.ReadFile(filepath.Join(state, socketPathFile))
	if err == nil {
		return strings.TrimSpace(string(note)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("cannot find the socket of %s: %w", state, err)
	}
	return filepath.Abs(filepath.Join(state, socketFile))
}
