package lake

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
)

// tableProperties are set on every table that we make; iceberg-go's defaults
// keep every metadata file and every manifest for ever.
var tableProperties = iceberg.Properties{
	table.PropertyFormatVersion:               "2",
	table.CommitNumRetriesKey:                 "0", // a retry would rebase rows on a position it did not read
	table.MetadataDeleteAfterCommitEnabledKey: "true",
	table.MetadataPreviousVersionsMaxKey:      "20", // a foreign reader needs the file for a moment
	table.ManifestMergeEnabledKey:             "true",
	table.ManifestMinMergeCountKey:            "20",
	table.ParquetRowGroupLimitKey:             "122880", // DuckDB reads a row group per thread
	table.ParquetCompressionKey:               "zstd",
	table.ParquetCompressionLevelKey:          "1",
	table.WriteDeleteModeKey:                  table.WriteModeCopyOnWrite,
	table.DefaultWriteMetricsModeKey:          "truncate(16)",
	table.WriteTargetFileSizeBytesKey:         "268435456",
	"write.distribution-mode":                 "none", // Spark: the writer decides; a shuffle costs more than small files
	"write.update.mode":                       table.WriteModeCopyOnWrite,
	"write.merge.mode":                        table.WriteModeCopyOnWrite,
	"history.expire.min-snapshots-to-keep":    "1",
	"lockstep.format":                         "1",
}

// writeFiles writes rows as data files of tbl's schema and partition spec. After an error nothing is left behind.
func (l *Lake) writeFiles(ctx context.Context, tbl *table.Table, schema *arrow.Schema, rows iter.Seq2[arrow.RecordBatch, error]) (files []iceberg.DataFile, err error) {
	conform, err := newConformer(tbl, schema)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.removeFiles(files))
			files = nil
		}
	}()
	conformed := func(yield func(arrow.RecordBatch, error) bool) {
		for b, err := range rows {
			if err == nil {
				b, err = conform.batch(ctx, b)
			}
			if err == nil && b.NumRows() == 0 {
				b.Release()
				continue
			}
			if !yield(b, err) || err != nil {
				return
			}
		}
	}
	for f, err := range table.WriteRecords(ctx, tbl, conform.schema, conformed) {
		if err != nil {
			return files, fmt.Errorf("cannot write data files: %w", err)
		}
		files = append(files, f)
	}
	return files, nil
}

// removeFiles removes data files that no snapshot will name.
func (l *Lake) removeFiles(files []iceberg.DataFile) error {
	var errs error
	for _, f := range files {
		errs = errors.Join(errs, l.files.Remove(f.FilePath()))
	}
	return errs
}

// commit ends a transaction whose new data files are files. They are removed
// when it failed for certain.
func (l *Lake) commit(ctx context.Context, txn *table.Transaction, files []iceberg.DataFile) (*table.Table, error) {
	tbl, err := txn.Commit(ctx)
	if err != nil && !errors.Is(err, ErrUnknownOutcome) {
		err = errors.Join(err, l.removeFiles(files))
	}
	return tbl, err
}
