// Package lake keeps tables in Iceberg format and hides iceberg-go. A lake is
// on the local disk (Open: SQLite catalog, files) or on a cluster (OpenREST:
// Iceberg REST catalog, S3); all but opening it is the same.
//
// It reads Arrow record batches and gives snapshots: bronze tables grow by
// Append, which commits rows and log position together; silver and gold tables
// are exchanged whole by Replace. A Manifest names one snapshot per table and
// is published by compare-and-swap. Maintain keeps files and metadata few.
//
// It guarantees that a commit is all or nothing, that its files are on disk
// before the catalog points to them, and that a commit based on a state that
// is no longer current fails with ErrConflict instead of being rebased.
package lake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"

	"github.com/apache/iceberg-go/table"
)

// ErrConflict says that someone else committed since the state was read.
// Nothing was written; read the state again (Bronze.Reload) and decide anew.
var ErrConflict = errors.New("the table was changed by another writer")

// ErrUnknownOutcome says that a commit may or may not have happened. Read the
// state again (Bronze.Reload) to see which.
var ErrUnknownOutcome = errors.New("the outcome of the commit is unknown")

// ErrNoTable says that a table does not exist in the catalog.
var ErrNoTable = errors.New("no such table")

// ErrRemote says that a lake's files are not on this machine.
var ErrRemote = errors.New("the files of the lake are not on this machine")

// ErrNoSnapshot says that a table has no such snapshot (any more).
var ErrNoSnapshot = errors.New("no such snapshot")

// Points at which Options.Hook is called, in the order of a commit.
const (
	// PointFiles: data files are written, no metadata yet.
	PointFiles = "files"
	// PointMetadata: all files are on the disk, the catalog still points to the
	// state before.
	PointMetadata = "metadata"
	// PointCommitted: the catalog points to the new state, the caller does not
	// know it yet. An error returned here is a lost answer.
	PointCommitted = "committed"
	// PointExpired: snapshots are out of the metadata, their files are not yet
	// removed.
	PointExpired = "expired"
	// PointManifest: a manifest is about to be published (on the local disk it
	// is there under a temporary name).
	PointManifest = "manifest"
	// PointPublished: a manifest is published, the caller does not know it yet.
	PointPublished = "published"
)

// Operations that a Hook is told of.
const (
	OpCreate  = "create"
	OpEvolve  = "evolve"
	OpAppend  = "append"
	OpReplace = "replace"
	OpCompact = "compact"
	OpExpire  = "expire"
	OpPublish = "publish"
)

// Event is where a commit stands when Options.Hook is called.
type Event struct {
	Point string // PointFiles, ...
	Op    string // OpAppend, ...
	Table string // namespace.table; empty for manifests
}

// Options of a lake. The zero value is right for production.
type Options struct {
	// Hook, when set, is called at the points of a commit; crash tests end the
	// process there. An error that it returns fails the commit: before
	// PointCommitted with nothing written, at PointCommitted as
	// ErrUnknownOutcome.
	Hook func(Event) error
	// Logger gets warnings, such as files that cannot be removed; default
	// slog.Default().
	Logger *slog.Logger
}

// Lake is an open lake: a catalog and the tables under one folder. It is safe
// for concurrent use; commits on one table are made one after the other.
type Lake struct {
	dir     string // path, or URI of the warehouse
	remote  bool   // dir is a URI
	opts    Options
	cat     catalog
	files   files
	objects objectStore
	log     *slog.Logger

	upkeep sync.Mutex // one Maintain at a time: it removes files

	mu    sync.Mutex
	locks map[string]*sync.Mutex // by table: one committer at a time
	live  map[string]*Bronze     // open bronze tables by name
	held  map[heldKey]int        // snapshots that readers hold
}

// Open opens the lake in dir (catalog.db, warehouse/, manifests/) and makes it
// when it is not there. The folder must not be moved afterwards: Iceberg
// metadata holds absolute paths.
func Open(ctx context.Context, dir string) (*Lake, error) {
	return OpenWith(ctx, dir, Options{})
}

// OpenWith is Open with options.
func OpenWith(ctx context.Context, dir string, opts Options) (*Lake, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot resolve lake folder %q: %w", dir, err)
	}
	for _, d := range []string{abs, filepath.Join(abs, "warehouse"), filepath.Join(abs, "manifests")} {
		if err := makeDir(d); err != nil {
			return nil, fmt.Errorf("cannot make lake folder: %w", err)
		}
	}
	l := newLake(abs, opts)
	fs := newTableFS()
	l.files, l.objects = fs, folder{abs, l.hook}
	l.cat, err = openSQLite(ctx, filepath.Join(abs, "catalog.db"), filepath.Join(abs, "warehouse"), fs, l.hook)
	if err != nil {
		return nil, err
	}
	return l, nil
}

func newLake(dir string, opts Options) *Lake {
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	return &Lake{dir: dir, opts: opts, log: opts.Logger, locks: map[string]*sync.Mutex{}, live: map[string]*Bronze{}, held: map[heldKey]int{}}
}

// Close releases the catalog. Open Bronze handles must not be used after it.
func (l *Lake) Close() error { return errors.Join(l.cat.close(), l.files.close()) }

// Dir is the lake's absolute folder, or the URI of its warehouse.
func (l *Lake) Dir() string { return l.dir }

// Tables names all tables of the catalog, in order.
func (l *Lake) Tables(ctx context.Context) ([]string, error) { return l.cat.tables(ctx) }

// Drop takes a table out of the catalog and removes its files. A table that
// does not exist is no error.
func (l *Lake) Drop(ctx context.Context, name string) error {
	ident, err := identifier(name)
	if err != nil {
		return err
	}
	defer l.lock(name)()
	location, err := l.cat.drop(ctx, ident)
	if err != nil || location == "" {
		return err
	}
	if err := l.files.removeAll(ctx, location); err != nil {
		return fmt.Errorf("cannot remove the files of table %s: %w", name, err)
	}
	return nil
}

// lock makes the caller the only committer of a table in this process and
// gives the function that ends it.
func (l *Lake) lock(name string) func() {
	l.mu.Lock()
	m := l.locks[name]
	if m == nil {
		m = new(sync.Mutex)
		l.locks[name] = m
	}
	l.mu.Unlock()
	m.Lock()
	return m.Unlock
}

func (l *Lake) hook(ctx context.Context, point, name string) error {
	if l.opts.Hook == nil {
		return nil
	}
	op, _ := ctx.Value(opKey{}).(string)
	return l.opts.Hook(Event{Point: point, Op: op, Table: name})
}

type opKey struct{}

// withOp notes in ctx which operation commits, for the hook.
func withOp(ctx context.Context, op string) context.Context {
	return context.WithValue(ctx, opKey{}, op)
}

// identifier splits namespace.table.
func identifier(name string) (table.Identifier, error) {
	ns, tbl, ok := strings.Cut(name, ".")
	if !ok || ns == "" || tbl == "" || strings.ContainsAny(tbl, `./\`) || strings.ContainsAny(ns, `/\`) {
		return nil, fmt.Errorf("table name %q: must be namespace.table", name)
	}
	return table.Identifier{ns, tbl}, nil
}
