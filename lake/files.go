package lake

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	iceio "github.com/apache/iceberg-go/io"
)

// tableFS is the local disk for iceberg-go. It remembers which files were
// written and not yet synced, so that a commit can wait for all of them at
// once, and the catalog never points to bytes that a power cut takes away.
// Waiting for each file when it is closed makes a commit several times as long.
type tableFS struct {
	iceio.LocalFS
	mu      *sync.Mutex
	pending map[string]bool // paths
}

func newTableFS() tableFS { return tableFS{mu: new(sync.Mutex), pending: map[string]bool{}} }

// Create makes a file and its folders.
func (t tableFS) Create(name string) (iceio.FileWriter, error) {
	path, err := pathOf(name)
	if err != nil {
		return nil, err
	}
	if err := makeDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending[path] = true
	return f, nil
}

// WriteFile is Create, Write and Close.
func (t tableFS) WriteFile(name string, content []byte) error {
	f, err := t.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

// Remove removes a file; one that is gone already is no error.
func (t tableFS) Remove(name string) error {
	path, err := pathOf(name)
	if err != nil {
		return err
	}
	t.mu.Lock()
	delete(t.pending, path)
	t.mu.Unlock()
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (t tableFS) removeAll(_ context.Context, folder string) error {
	path, err := pathOf(folder)
	if err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// sync waits until all that was written below folder is on the disk. The
// files are synced side by side: the disk then does it in one go.
func (t tableFS) sync(folder string) error {
	folder, err := pathOf(folder)
	if err != nil {
		return err
	}
	paths := map[string]bool{}
	t.mu.Lock()
	for p := range t.pending {
		if strings.HasPrefix(p, folder+string(filepath.Separator)) {
			paths[p], paths[filepath.Dir(p)] = true, true
			delete(t.pending, p)
		}
	}
	t.mu.Unlock()
	errs := make(chan error, len(paths))
	for p := range paths {
		go func() { errs <- syncPath(p) }()
	}
	var all error
	for range paths {
		if err := <-errs; err != nil && !errors.Is(err, os.ErrNotExist) { // removed by a failed attempt
			all = errors.Join(all, err)
		}
	}
	return all
}

func (t tableFS) close() error { return nil }

// syncPath makes a file's bytes or a folder's names durable.
func syncPath(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) { // some file systems have nothing to wait for
		err = nil
	}
	return errors.Join(err, d.Close())
}

// makeDir makes a folder and those above it, durably.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncPath(parent)
}

// uriOf is the file URI of an absolute path.
func uriOf(path string) string {
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(path)}).String()
}

// pathOf is the path of a file URI; what has no scheme is a path already.
func pathOf(uri string) (string, error) {
	if filepath.IsAbs(uri) {
		return uri, nil
	}
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "file" || (u.Host != "" && u.Host != "localhost") {
		return "", fmt.Errorf("cannot use %q: not a file on this machine", uri)
	}
	return filepath.FromSlash(u.Path), nil
}
