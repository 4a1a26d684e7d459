// Package duckdb is the embedded engine: DuckDB for SQL, pebble (package store)
// for the state of the stream.
//
// Reads: bronze rows as Arrow record batches. Writes: the store. A step is one
// batch of the store, so that state, step number and changes cannot part.
package duckdb

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

func newRecordBatch(fields []arrow.Field, columns []arrow.Array, rows int64) arrow.RecordBatch {
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, rows)
}
