package lake

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Objects are small files beside the tables, each written whole. Names are
// slash paths such as "runs/7/run.json".
type Objects interface {
	// Get reads an object; ErrNoObject: there is none.
	Get(ctx context.Context, name string) ([]byte, error)
	// Put writes an object, in the place of one of before.
	Put(ctx context.Context, name string, data []byte) error
	// PutNew writes an object that must not be there: ErrConflict says that it
	// is, and stays as it was; ErrUnknownOutcome that it may be ours.
	PutNew(ctx context.Context, name string, data []byte) error
	// List names the objects whose names begin with prefix, in order.
	List(ctx context.Context, prefix string) ([]string, error)
	// Delete removes an object; one that is not there is no error.
	Delete(ctx context.Context, name string) error
}

// ErrNoObject says that an object does not exist.
var ErrNoObject = errors.New("no such object")

// Objects are those of the lake: below lockstep/ in the warehouse of a remote
// one, below the folder of a local one.
func (l *Lake) Objects() Objects { return l.objects }

// objectStore is Objects for the lake itself.
type objectStore interface {
	Objects
	// place is where an object is, for messages.
	place(name string) string
	// sweep removes what PutNew left behind, ended in between, of that age.
	sweep(age time.Duration) error
}

// folder are objects as files. They are durable when a call returns.
type folder struct {
	dir  string
	hook hookFunc
}

func (f folder) place(name string) string { return filepath.Join(f.dir, filepath.FromSlash(name)) }

// temporary begins the names of files that are not objects yet.
const temporary = "tmp-"

func (f folder) path(name string) (string, error) {
	if !fs.ValidPath(name) || name == "." || strings.HasPrefix(path.Base(name), temporary) {
		return "", fmt.Errorf("cannot use %q as the name of an object", name)
	}
	return f.place(name), nil
}

func (f folder) Get(_ context.Context, name string) ([]byte, error) {
	p, err := f.path(name)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", p, ErrNoObject)
	}
	return data, err
}

func (f folder) Put(ctx context.Context, name string, data []byte) error {
	return f.put(name, data, os.Rename)
}

// PutNew links the whole file to its name, which fails when that exists.
func (f folder) PutNew(ctx context.Context, name string, data []byte) error {
	return f.put(name, data, func(tmp, p string) error {
		if err := f.hook(ctx, PointManifest, ""); err != nil {
			return err
		}
		err := os.Link(tmp, p)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s: %w", p, ErrConflict)
		}
		return err
	})
}

// put writes data under a temporary name and publishes that under name.
func (f folder) put(name string, data []byte, publish func(from, to string) error) error {
	p, err := f.path(name)
	if err != nil {
		return err
	}
	dir := filepath.Dir(p)
	if err := makeDir(dir); err != nil {
		return err
	}
	tmp, err := writeTemp(dir, data)
	if tmp != "" {
		defer os.Remove(tmp)
	}
	if err != nil {
		return err
	}
	if err := publish(tmp, p); err != nil {
		return err
	}
	if err := syncPath(dir); err != nil {
		return fmt.Errorf("%s: %w: %w", p, ErrUnknownOutcome, err)
	}
	return nil
}

// writeTemp writes a file under a new name, on disk when it returns.
func writeTemp(dir string, data []byte) (string, error) {
	f, err := os.CreateTemp(dir, temporary+"*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	return f.Name(), errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
}

func (f folder) List(_ context.Context, prefix string) ([]string, error) {
	root := f.place(path.Dir(prefix + "x"))
	var names []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), temporary) {
			return err
		}
		rel, err := filepath.Rel(f.dir, p)
		if name := filepath.ToSlash(rel); strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	slices.Sort(names)
	return names, err
}

func (f folder) Delete(_ context.Context, name string) error {
	p, err := f.path(name)
	if err != nil {
		return err
	}
	if err := os.Remove(p); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (f folder) sweep(age time.Duration) error {
	left, err := filepath.Glob(filepath.Join(f.dir, "*", temporary+"*"))
	for _, p := range left {
		if info, statErr := os.Stat(p); statErr == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > age {
			err = errors.Join(err, os.Remove(p))
		}
	}
	return err
}
