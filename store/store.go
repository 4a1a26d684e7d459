package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Causes that a caller can act on.
var (
	ErrLocked  = errors.New("another process has it open: stop that one, or ask it through its socket")
	ErrCorrupt = errors.New("it is corrupt: remove its folder, and it is built again from bronze")
	ErrFormat  = errors.New("it was written by another version: remove its folder, and it is built again from bronze")
)

// Options of a store. The zero value is right for most.
type Options struct {
	CacheBytes    int64 // block cache in memory; 0: 64 MB
	MemTableBytes int64 // writes held in memory before they go to a table file, up to three times; 0: 32 MB
	// Fatal is called when pebble cannot go on, as when the log of a commit
	// cannot be written: the disk is full, or gone. It must not return: after
	// it only a restart knows what is durable. Default: a log line, exit 1.
	Fatal func(error)

	fs        vfs.FS // tests inject faults
	bulkBytes int    // rows that a bulk load holds in memory; 0: 128 MB
}

func (o Options) withDefaults() Options {
	if o.CacheBytes == 0 {
		o.CacheBytes = 64 << 20
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = 32 << 20
	}
	if o.Fatal == nil {
		o.Fatal = exit
	}
	if o.bulkBytes == 0 {
		o.bulkBytes = 128 << 20
	}
	if o.fs == nil {
		o.fs = vfs.Default
	}
	return o
}

func exit(err error) {
	slog.Error(err.Error())
	os.Exit(1)
}

// Store is the keyed state in one folder. Its methods may be called at the same
// time; a read sees whole batches only.
type Store struct {
	dir  string
	opts Options
	db   *pebble.DB
}

// Open opens the store in dir and makes it if nothing is there. It fails with
// ErrLocked, ErrCorrupt or ErrFormat, or with the file system's error.
func Open(dir string, opts Options) (*Store, error) {
	s := &Store{dir: dir, opts: opts.withDefaults()}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("cannot open keyed state in %s: %w", dir, cause(err))
	}
	return s, nil
}

func (s *Store) open() error {
	if err := s.opts.fs.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	lock, err := pebble.LockDirectory(s.dir, s.opts.fs)
	if err != nil {
		return lockCause(err)
	}
	defer lock.Close() // pebble holds its own reference
	if err := s.opts.fs.RemoveAll(s.opts.fs.PathJoin(s.dir, bulkDir)); err != nil {
		return err
	}
	if s.db, err = pebble.Open(s.dir, s.pebbleOptions(lock)); err != nil {
		return openCause(err)
	}
	if err := s.checkLayout(); err != nil {
		return errors.Join(err, s.db.Close())
	}
	return nil
}

func (s *Store) pebbleOptions(lock *pebble.Lock) *pebble.Options {
	o := &pebble.Options{
		FS:                          &guard{s.opts.fs, s.fatal},
		Lock:                        lock,
		Comparer:                    comparer,
		CacheSize:                   s.opts.CacheBytes,
		MemTableSize:                uint64(s.opts.MemTableBytes),
		MemTableStopWritesThreshold: 3,
		// Pinned: a newer pebble must not upgrade a state by the way.
		FormatMajorVersion:    pebble.FormatValueSeparation,
		L0CompactionThreshold: 4,
		MaxOpenFiles:          1000,
		Logger:                logger{fatal: s.fatal},
		EventListener:         s.events(),
		// One compaction at a time, a second one when they fall behind.
		CompactionConcurrencyRange: func() (int, int) { return 1, 2 },
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}

// checkLayout compares the layout version, and writes it into a new store.
func (s *Store) checkLayout() error {
	got, err := s.get([]byte{kindFormat})
	if err != nil {
		return err
	}
	if got == nil {
		return s.db.Set([]byte{kindFormat}, []byte(layoutVersion), pebble.Sync)
	}
	if string(got) != layoutVersion {
		return fmt.Errorf("layout %q instead of %q: %w", got, layoutVersion, ErrFormat)
	}
	return nil
}

// Close waits for running compactions and closes the store. What was committed
// is durable with or without it.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("cannot close keyed state in %s: %w", s.dir, err)
	}
	return nil
}

func (s *Store) fatal(err error) {
	s.opts.Fatal(fmt.Errorf("cannot write keyed state in %s: %w: see that the disk is there and has space, then start again", s.dir, err))
	panic("store: Options.Fatal returned")
}

// failed names the store in an error of one of its methods.
func (s *Store) failed(verb string, err error) error {
	return fmt.Errorf("cannot %s keyed state in %s: %w", verb, s.dir, cause(err))
}

// cause puts our name for a cause in front of pebble's error.
func cause(err error) error {
	if pebble.IsCorruptionError(err) && !errors.Is(err, ErrCorrupt) {
		return corrupt(err)
	}
	return err
}

func corrupt(err error) error {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return fmt.Errorf("%w (%s)", ErrCorrupt, line)
}

// openCause takes for corrupt what is not the file system's refusal: files that
// are missing, cut short, or make no sense. Pebble marks only some of them.
func openCause(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) && errno != syscall.ENOENT {
		return err
	}
	return corrupt(err)
}

func lockCause(err error) error {
	if errors.Is(err, syscall.EAGAIN) || err.Error() == "lock held by current process" {
		return fmt.Errorf("%w (%w)", ErrLocked, err)
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: make the folder writable for this user", err)
	}
	return err
}

// logger drops what pebble tells of its daily work.
type logger struct{ fatal func(error) }

func (logger) Infof(string, ...any) {}

func (logger) Errorf(format string, args ...any) {
	slog.Error("keyed state: " + fmt.Sprintf(format, args...))
}

func (l logger) Fatalf(format string, args ...any) { l.fatal(fmt.Errorf(format, args...)) }

// events tells the operator what happens in the background; a damaged table is
// also the error of the read that met it.
func (s *Store) events() *pebble.EventListener {
	tell := func(what string, err error) {
		slog.Error("keyed state: "+what, "dir", s.dir, "err", err.Error())
	}
	return &pebble.EventListener{
		BackgroundError: func(err error) { tell("a flush or compaction failed and is tried again", err) },
		DataCorruption:  func(info pebble.DataCorruptionInfo) { tell("damaged file "+info.Path, info.Details) },
	}
}
