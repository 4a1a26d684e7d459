package lake

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"
	"github.com/mattn/go-sqlite3"
)

// catalogName is the key of our rows; foreign clients of the SQLite catalog
// (PyIceberg's SqlCatalog, Iceberg's JdbcCatalog) open it by this name.
const catalogName = "lockstep"

// catalogTables are those that every Iceberg SQL catalog uses (JDBC schema V1).
const catalogTables = `
CREATE TABLE IF NOT EXISTS iceberg_tables (
	catalog_name VARCHAR(255) NOT NULL, table_namespace VARCHAR(255) NOT NULL, table_name VARCHAR(255) NOT NULL,
	metadata_location VARCHAR(1000), previous_metadata_location VARCHAR(1000), iceberg_type VARCHAR(5),
	PRIMARY KEY (catalog_name, table_namespace, table_name));
CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (
	catalog_name VARCHAR(255) NOT NULL, namespace VARCHAR(255) NOT NULL, property_key VARCHAR(255) NOT NULL, property_value VARCHAR(1000),
	PRIMARY KEY (catalog_name, namespace, property_key));`

const (
	insertNamespace = `INSERT OR IGNORE INTO iceberg_namespace_properties VALUES (?, ?, 'exists', 'true')`
	insertTable     = `INSERT INTO iceberg_tables VALUES (?, ?, ?, ?, NULL, 'TABLE')`
)

// sqliteCatalog maps table names to metadata files in a SQLite database. It is
// our own, and not iceberg-go's, for three reasons: a failed commit must say
// whether it happened, metadata must be on disk before the catalog points to
// it, and metadata that has not changed need not be parsed again.
type sqliteCatalog struct {
	db        *sql.DB
	path      string
	warehouse string
	files     tableFS
	hook      hookFunc

	mu     sync.Mutex
	loaded map[string]*table.Table // the last state read or written, by table
}

// damagedCatalog is what to do about one.
const damagedCatalog = "if the file is damaged, move it away with its -wal and -shm: it is made again from the tables' metadata"

func openSQLite(ctx context.Context, path, warehouse string, files tableFS, hook hookFunc) (*sqliteCatalog, error) {
	dsn := uriOf(path) + "?_journal_mode=WAL&_synchronous=FULL&_busy_timeout=10000&_txlock=immediate"
	db, err := sql.Open("sqlite3", dsn)
	if err != nil {
		return nil, fmt.Errorf("cannot open catalog %s: %w", path, err)
	}
	c := &sqliteCatalog{db: db, path: path, warehouse: warehouse, files: files, hook: hook, loaded: map[string]*table.Table{}}
	if _, err := db.ExecContext(ctx, catalogTables); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open catalog %s: %w; %s", path, err, damagedCatalog), db.Close())
	}
	if err := c.recover(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return c, nil
}

func (c *sqliteCatalog) close() error { return c.db.Close() }

// folder is where a table's files lie.
func (c *sqliteCatalog) folder(ident table.Identifier) string {
	return filepath.Join(c.warehouse, ident[0], ident[1])
}

func (c *sqliteCatalog) fs(context.Context) (iceio.IO, error) { return c.files, nil }

func (c *sqliteCatalog) tables(ctx context.Context) ([]string, error) {
	rows, err := c.db.QueryContext(ctx, `SELECT table_namespace || '.' || table_name FROM iceberg_tables WHERE catalog_name = ? ORDER BY 1`, catalogName)
	if err != nil {
		return nil, fmt.Errorf("cannot list tables of catalog %s: %w; %s", c.path, err, damagedCatalog)
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var n string
		if err := rows.Scan(&n); err != nil {
			return nil, fmt.Errorf("cannot list tables of catalog %s: %w; %s", c.path, err, damagedCatalog)
		}
		names = append(names, n)
	}
	return names, rows.Err()
}

// LoadTable gives the current state of a table, or ErrNoTable.
func (c *sqliteCatalog) LoadTable(ctx context.Context, ident table.Identifier) (*table.Table, error) {
	name := ident[0] + "." + ident[1]
	var loc string
	err := c.db.QueryRowContext(ctx, `SELECT metadata_location FROM iceberg_tables WHERE catalog_name = ? AND table_namespace = ? AND table_name = ?`,
		catalogName, ident[0], ident[1]).Scan(&loc)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("table %s: %w", name, ErrNoTable)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot look up table %s in catalog %s: %w", name, c.path, err)
	}
	c.mu.Lock()
	t := c.loaded[name]
	c.mu.Unlock()
	if t != nil && t.MetadataLocation() == loc {
		return t, nil
	}
	return c.read(ident, loc)
}

// read parses a metadata file and remembers it.
func (c *sqliteCatalog) read(ident table.Identifier, loc string) (*table.Table, error) {
	name := ident[0] + "." + ident[1]
	path, err := pathOf(loc)
	if err != nil {
		return nil, fmt.Errorf("cannot read table %s: %w", name, err)
	}
	if folder := c.folder(ident); filepath.Dir(filepath.Dir(path)) != folder {
		return nil, fmt.Errorf("cannot read table %s: its metadata is at %s, not below %s: was the state folder moved? Move it back, or begin a new state", name, path, folder)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read metadata of table %s: %w", name, err)
	}
	meta, err := table.ParseMetadataBytes(data)
	if err != nil {
		return nil, fmt.Errorf("cannot read metadata of table %s: %s is damaged: %w; restore the file from a copy of the state (a table of silver or gold can be removed with its folder: it is made again from bronze)", name, path, err)
	}
	return c.remember(ident, meta, loc), nil
}

func (c *sqliteCatalog) remember(ident table.Identifier, meta table.Metadata, loc string) *table.Table {
	t := table.New(ident, meta, loc, c.fs, c)
	c.mu.Lock()
	c.loaded[ident[0]+"."+ident[1]] = t
	c.mu.Unlock()
	return t
}

// create makes an empty table. ErrConflict: it exists already.
func (c *sqliteCatalog) create(ctx context.Context, ident table.Identifier, sc *iceberg.Schema, spec *iceberg.PartitionSpec, props iceberg.Properties) (*table.Table, error) {
	name := ident[0] + "." + ident[1]
	meta, err := table.NewMetadata(sc, spec, table.UnsortedSortOrder, uriOf(c.folder(ident)), props)
	if err != nil {
		return nil, fmt.Errorf("cannot create table %s: %w", name, err)
	}
	loc, err := c.write(ident, meta, 0)
	if err != nil {
		return nil, err
	}
	if err := c.hook(ctx, PointMetadata, name); err != nil {
		return nil, errors.Join(err, c.files.Remove(loc))
	}
	ctx = context.WithoutCancel(ctx)
	_, err = c.db.ExecContext(ctx, insertNamespace, catalogName, ident[0])
	if err == nil {
		_, err = c.db.ExecContext(ctx, insertTable, catalogName, ident[0], ident[1], loc)
	}
	if err != nil {
		return nil, c.failed(name, loc, err)
	}
	if err := c.hook(ctx, PointCommitted, name); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	return c.remember(ident, meta, loc), nil
}

// CommitTable moves a table to a new state if reqs hold for the current one.
// Errors wrap ErrConflict (nothing happened, another writer came first) or
// ErrUnknownOutcome; any other error says that nothing happened.
func (c *sqliteCatalog) CommitTable(ctx context.Context, ident table.Identifier, reqs []table.Requirement, updates []table.Update) (table.Metadata, string, error) {
	name := ident[0] + "." + ident[1]
	cur, err := c.LoadTable(ctx, ident)
	if err != nil {
		return nil, "", err
	}
	for _, r := range reqs {
		if err := r.Validate(cur.Metadata()); err != nil {
			return nil, "", fmt.Errorf("table %s: %w: %w", name, conflict, err)
		}
	}
	meta, err := table.UpdateTableMetadata(cur.Metadata(), updates, cur.MetadataLocation())
	if err != nil {
		return nil, "", fmt.Errorf("cannot update metadata of table %s: %w", name, err)
	}
	loc, err := c.write(ident, meta, versionOf(cur.MetadataLocation())+1)
	if err != nil {
		return nil, "", err
	}
	if err := c.hook(ctx, PointMetadata, name); err != nil {
		return nil, "", errors.Join(err, c.files.Remove(loc))
	}
	if err := c.swap(ctx, ident, cur.MetadataLocation(), loc); err != nil {
		return nil, "", err
	}
	if err := c.hook(ctx, PointCommitted, name); err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	c.remember(ident, meta, loc)
	return meta, loc, nil
}

// swap points the catalog from one metadata file to the next, in one
// statement, so that it is done or not done.
func (c *sqliteCatalog) swap(ctx context.Context, ident table.Identifier, from, to string) error {
	name := ident[0] + "." + ident[1]
	// A cancelled statement would leave us not knowing; it is short, let it end.
	res, err := c.db.ExecContext(context.WithoutCancel(ctx), `UPDATE iceberg_tables SET metadata_location = ?, previous_metadata_location = ?, iceberg_type = 'TABLE'
		WHERE catalog_name = ? AND table_namespace = ? AND table_name = ? AND metadata_location = ?`,
		to, from, catalogName, ident[0], ident[1], from)
	if err != nil {
		return c.failed(name, to, err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return errors.Join(fmt.Errorf("table %s: %w", name, conflict), c.files.Remove(to))
	}
	return nil
}

// failed says what a failed statement means: SQLite names those errors after
// which nothing has happened; after others we do not know.
func (c *sqliteCatalog) failed(name, loc string, err error) error {
	var se sqlite3.Error
	if errors.As(err, &se) {
		switch se.Code {
		case sqlite3.ErrConstraint:
			return errors.Join(fmt.Errorf("table %s: %w: %w", name, conflict, err), c.files.Remove(loc))
		case sqlite3.ErrBusy, sqlite3.ErrLocked, sqlite3.ErrFull, sqlite3.ErrReadonly, sqlite3.ErrCantOpen, sqlite3.ErrPerm:
			return errors.Join(fmt.Errorf("cannot commit table %s to catalog %s: %w", name, c.path, err), c.files.Remove(loc))
		}
	}
	return fmt.Errorf("table %s in catalog %s: %w: %w", name, c.path, ErrUnknownOutcome, err)
}

func (c *sqliteCatalog) drop(ctx context.Context, ident table.Identifier) (string, error) {
	_, err := c.db.ExecContext(ctx, `DELETE FROM iceberg_tables WHERE catalog_name = ? AND table_namespace = ? AND table_name = ?`, catalogName, ident[0], ident[1])
	if err != nil {
		return "", fmt.Errorf("cannot drop table %s.%s from catalog %s: %w", ident[0], ident[1], c.path, err)
	}
	c.mu.Lock()
	delete(c.loaded, ident[0]+"."+ident[1])
	c.mu.Unlock()
	return uriOf(c.folder(ident)), nil
}

// write writes a metadata file and gives its URI. It and all other files of
// the table are then on the disk.
func (c *sqliteCatalog) write(ident table.Identifier, meta table.Metadata, version int) (string, error) {
	loc := uriOf(filepath.Join(c.folder(ident), "metadata", fmt.Sprintf("%05d-%s.metadata.json", version, uuid.NewString())))
	var buf bytes.Buffer
	if err := json.NewEncoder(&buf).Encode(meta); err != nil {
		return "", fmt.Errorf("cannot encode metadata of table %s.%s: %w", ident[0], ident[1], err)
	}
	if err := errors.Join(c.files.WriteFile(loc, buf.Bytes()), c.files.sync(uriOf(c.folder(ident)))); err != nil {
		return "", errors.Join(fmt.Errorf("cannot write metadata of table %s.%s: %w", ident[0], ident[1], err), c.files.Remove(loc))
	}
	return loc, nil
}

var metadataFile = regexp.MustCompile(`^(\d+)-[0-9a-f-]{36}\.metadata\.json$`)

// versionOf is the number at the front of a metadata file's name; -1: none.
func versionOf(loc string) int {
	m := metadataFile.FindStringSubmatch(filepath.Base(loc))
	if m == nil {
		return -1
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return -1
	}
	return n
}

// recover fills an empty catalog from the newest metadata file of each table:
// its database was lost, or it is new and there are none. The file may be of a
// commit that was never finished; it is whole nevertheless, and holds its
// position together with its rows.
func (c *sqliteCatalog) recover(ctx context.Context) error {
	if names, err := c.tables(ctx); err != nil || len(names) > 0 {
		return err
	}
	folders, err := filepath.Glob(filepath.Join(c.warehouse, "*", "*", "metadata"))
	if err != nil || len(folders) == 0 {
		return err
	}
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("cannot make the lost catalog %s again: %w", c.path, err)
	}
	defer tx.Rollback()
	for _, folder := range folders {
		if err := c.recoverTable(ctx, tx, folder); err != nil {
			return fmt.Errorf("cannot make the lost catalog %s again: %w", c.path, err)
		}
	}
	return tx.Commit()
}

func (c *sqliteCatalog) recoverTable(ctx context.Context, tx *sql.Tx, folder string) error {
	tbl := filepath.Dir(folder)
	ident := table.Identifier{filepath.Base(filepath.Dir(tbl)), filepath.Base(tbl)}
	var failed error
	for _, loc := range metadataFiles(folder) {
		if _, err := c.read(ident, loc); err != nil {
			failed = errors.Join(failed, err) // half written when the machine stopped; the one before is good
			continue
		}
		if _, err := tx.ExecContext(ctx, insertNamespace, catalogName, ident[0]); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, insertTable, catalogName, ident[0], ident[1], loc)
		return err
	}
	return failed
}

// metadataFiles are the URIs of the metadata files in a folder, newest first.
func metadataFiles(folder string) []string {
	type file struct {
		name    string
		version int
		written time.Time
	}
	var files []file
	entries, _ := os.ReadDir(folder)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && versionOf(e.Name()) >= 0 {
			files = append(files, file{e.Name(), versionOf(e.Name()), info.ModTime()})
		}
	}
	slices.SortFunc(files, func(a, b file) int {
		return cmp.Or(cmp.Compare(b.version, a.version), b.written.Compare(a.written))
	})
	uris := make([]string, len(files))
	for i, f := range files {
		uris[i] = uriOf(filepath.Join(folder, f.name))
	}
	return uris
}
