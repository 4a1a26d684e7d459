package lake

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	iceio "github.com/apache/iceberg-go/io"
)

// durableFS is the local disk for iceberg-go, with one difference: a file that
// was closed without an error is on the disk, so that a catalog never points
// to bytes that a power cut takes away.
type durableFS struct {
	iceio.LocalFS
}

// Create makes a file whose Close waits for the disk.
func (durableFS) Create(name string) (iceio.FileWriter, error) {
	path, err := pathOf(name)
	if err != nil {
		return nil, err
	}
	if err := madeDirs.make(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &durableFile{File: f}, nil
}

// WriteFile is Create, Write and Close.
func (d durableFS) WriteFile(name string, content []byte) error {
	f, err := d.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

// Remove removes a file; one that is gone already is no error.
func (d durableFS) Remove(name string) error {
	err := d.LocalFS.Remove(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

type durableFile struct {
	*os.File
	closed bool
}

// Close waits for the disk. Closing again does nothing: iceberg-go and the
// Parquet writer both close what they share.
func (f *durableFile) Close() error {
	if f.closed {
		return nil
	}
	f.closed = true
	return errors.Join(f.Sync(), f.File.Close(), syncDir(filepath.Dir(f.Name())))
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) { // some file systems have nothing to wait for
		err = nil
	}
	return errors.Join(err, d.Close())
}

// dirMaker makes folders durably: their parents are synced too.
type dirMaker struct{ mu sync.Mutex }

var madeDirs dirMaker

func (m *dirMaker) make(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return makeDir(dir)
}

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
	return syncDir(parent)
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
