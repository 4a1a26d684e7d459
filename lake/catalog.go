package lake

import (
	"context"
	"fmt"

	"github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
)

// catalog knows the current state of every table. LoadTable gives it, or
// ErrNoTable. CommitTable moves a table to a new state if the requirements
// hold for the current one; its errors wrap ErrConflict (nothing happened,
// another writer came first) or ErrUnknownOutcome, and any other says that
// nothing happened. It never tries again by itself.
type catalog interface {
	table.CatalogIO
	tables(ctx context.Context) ([]string, error)
	// create makes an empty table; ErrConflict: it exists already.
	create(ctx context.Context, ident table.Identifier, sc *iceberg.Schema, spec *iceberg.PartitionSpec, props iceberg.Properties) (*table.Table, error)
	// drop takes a table out of the catalog and says where its files are, which
	// stay; "": there was no such table.
	drop(ctx context.Context, ident table.Identifier) (location string, err error)
	// remember is the table of a state that CommitTable gave.
	remember(ident table.Identifier, meta table.Metadata, location string) *table.Table
	fs(ctx context.Context) (iceio.IO, error)
	close() error
}

// files is where the tables' files lie, by URI.
type files interface {
	iceio.WriteFileIO // Remove of a file that is gone already is no error
	// removeAll removes all files below a folder.
	removeAll(ctx context.Context, folder string) error
	// sync waits until all that was written below a folder is durable.
	sync(folder string) error
	close() error
}

type hookFunc func(ctx context.Context, point, name string) error

// conflict is ErrConflict in a form that iceberg-go knows too: it then removes
// what the attempt left behind.
var conflict = fmt.Errorf("%w: %w", ErrConflict, table.ErrCommitFailed)
