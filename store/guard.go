package store

import (
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guard tells of failed writes to the commit log and the manifest before pebble
// hears of them. Pebble cannot go on after one, and some of its ways to end are
// riddles (an unlock of an unlocked mutex, when the disk is full as a log file
// ends).
type guard struct {
	vfs.FS
	fatal func(error)
}

// Unwrap is for vfs.Root.
func (g *guard) Unwrap() vfs.FS { return g.FS }

func guarded(name string) bool {
	return strings.HasSuffix(name, ".log") || strings.Contains(name, "MANIFEST-")
}

func (g *guard) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.Create(name, category)
	return g.file(name, f, err)
}

func (g *guard) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.ReuseForWrite(old, name, category)
	return g.file(name, f, err)
}

func (g *guard) file(name string, f vfs.File, err error) (vfs.File, error) {
	if !guarded(name) {
		return f, err
	}
	if err != nil {
		g.fatal(err)
		return nil, err
	}
	return guardedFile{f, g.fatal}, nil
}

type guardedFile struct {
	vfs.File
	fatal func(error)
}

func (f guardedFile) check(err error) error {
	if err != nil {
		f.fatal(err)
	}
	return err
}

func (f guardedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.check(err)
}

func (f guardedFile) WriteAt(p []byte, at int64) (int, error) {
	n, err := f.File.WriteAt(p, at)
	return n, f.check(err)
}

func (f guardedFile) Sync() error     { return f.check(f.File.Sync()) }
func (f guardedFile) SyncData() error { return f.check(f.File.SyncData()) }

func (f guardedFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.check(err)
}
