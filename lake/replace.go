package lake

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"

	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
)

// Replace exchanges all rows of a table, and its columns and partitions where
// they differ, in one commit, and gives the new snapshot's id. The table is
// made when it is not there. partitionBy holds Iceberg transforms ("month(at)");
// summary goes into the snapshot's summary, each key with "lockstep." before it,
// and is carried over by maintenance. After an error (other than
// ErrUnknownOutcome) the old rows stand; snapshots of before stay readable
// until Maintain expires them.
func (l *Lake) Replace(ctx context.Context, name string, columns []project.Column, partitionBy []string, rows array.RecordReader, summary map[string]string) (int64, error) {
	ident, err := identifier(name)
	if err != nil {
		return 0, err
	}
	defer l.lock(name)()
	ctx = withOp(ctx, OpReplace)
	tbl, old, err := l.replaceable(ctx, ident, columns, partitionBy)
	if err != nil {
		return 0, fmt.Errorf("cannot replace table %s: %w", name, err)
	}
	id, err := l.replace(ctx, tbl, old, columns, partitionBy, rows, summary)
	if err != nil {
		return 0, fmt.Errorf("cannot replace table %s: %w", name, err)
	}
	return id, nil
}

// Shape makes a table, or gives it exactly these columns and partitions, and
// adds properties, for another program to write its rows: metadata alone is
// committed. A column of the same name and type keeps its field id; one of
// another type is a new column.
func (l *Lake) Shape(ctx context.Context, name string, columns []project.Column, partitionBy []string, properties map[string]string) error {
	ident, err := identifier(name)
	if err != nil {
		return err
	}
	defer l.lock(name)()
	if err := l.shape(withOp(ctx, OpEvolve), ident, columns, partitionBy, properties); err != nil {
		return fmt.Errorf("cannot shape table %s: %w", name, err)
	}
	return nil
}

func (l *Lake) shape(ctx context.Context, ident table.Identifier, columns []project.Column, partitionBy []string, properties map[string]string) error {
	tbl, err := l.loadOrCreate(ctx, ident, columns, partitionBy)
	if err != nil {
		return err
	}
	updates, err := l.reshape(tbl.Metadata(), columns, partitionBy)
	if err != nil {
		return err
	}
	changed := iceberg.Properties{}
	for k, v := range properties {
		if have, ok := tbl.Properties()[k]; !ok || have != v {
			changed[k] = v
		}
	}
	if len(changed) > 0 {
		updates = append(updates, table.NewSetPropertiesUpdate(changed))
	}
	if len(updates) > 0 {
		_, err = l.commitMetadata(ctx, tbl, updates...)
	}
	return err
}

// replaceable gives a table and its current contents. A derived table whose
// metadata was deleted from the disk is made anew: it can be.
func (l *Lake) replaceable(ctx context.Context, ident table.Identifier, columns []project.Column, partitionBy []string) (*table.Table, contents, error) {
	tbl, err := l.loadOrCreate(ctx, ident, columns, partitionBy)
	var old contents
	if err == nil {
		old, err = currentContents(ctx, tbl)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return tbl, old, err
	}
	l.log.Warn("table's metadata is gone from the disk; it is made anew", "table", ident[0]+"."+ident[1], "error", err)
	if _, err := l.cat.drop(ctx, ident); err != nil {
		return nil, contents{}, err
	}
	tbl, err = l.loadOrCreate(ctx, ident, columns, partitionBy)
	return tbl, contents{}, err
}

// contents are the files of a snapshot.
type contents struct {
	data    []iceberg.DataFile
	deletes []iceberg.DataFile // written by foreign programs
}

// currentContents are those of a table's current snapshot.
func currentContents(ctx context.Context, tbl *table.Table) (contents, error) {
	var c contents
	tasks, err := tbl.Scan().PlanFiles(ctx)
	if err != nil {
		return c, err
	}
	seen := map[string]bool{}
	for _, t := range tasks {
		c.data = append(c.data, t.File)
		for _, d := range slices.Concat(t.DeleteFiles, t.EqualityDeleteFiles, t.DeletionVectorFiles) {
			if !seen[d.FilePath()] {
				c.deletes, seen[d.FilePath()] = append(c.deletes, d), true
			}
		}
	}
	return c, nil
}

func (l *Lake) replace(ctx context.Context, tbl *table.Table, old contents, columns []project.Column, partitionBy []string, rows array.RecordReader, summary map[string]string) (int64, error) {
	name := tbl.Identifier()[0] + "." + tbl.Identifier()[1]
	target, err := l.reshaped(tbl, columns, partitionBy)
	if err != nil {
		return 0, err
	}
	files, err := l.writeFiles(ctx, target, rows.Schema(), readerRows(rows))
	if err != nil {
		return 0, err
	}
	if err := l.hook(ctx, PointFiles, name); err != nil {
		return 0, errors.Join(err, l.removeFiles(files))
	}
	txn := target.NewTransaction()
	if err := stageReplace(ctx, txn, old, files, summary); err != nil {
		return 0, errors.Join(err, l.removeFiles(files))
	}
	done, err := l.commit(ctx, txn, files)
	if err != nil {
		return 0, err
	}
	return done.CurrentSnapshot().SnapshotID, nil
}

func readerRows(rows array.RecordReader) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for rows.Next() {
			if !yield(rows.RecordBatch(), nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(nil, fmt.Errorf("cannot read the rows: %w", err))
		}
	}
}

// stageReplace puts files in the place of old.
func stageReplace(ctx context.Context, txn *table.Transaction, old contents, files []iceberg.DataFile, summary map[string]string) error {
	if err := txn.AssertRefSnapshotID(table.MainBranch); err != nil {
		return err
	}
	props := iceberg.Properties{}
	for k, v := range summary {
		props[ownPrefix+strings.TrimPrefix(k, ownPrefix)] = v
	}
	switch {
	case len(old.data) == 0:
		return addFiles(ctx, txn, files, props)
	case len(old.deletes) == 0:
		return txn.ReplaceDataFilesWithDataFiles(ctx, old.data, files, props, table.WithoutAutoNameMapping())
	default:
		return txn.ReplaceFiles(ctx, old.data, files, old.deletes, props, table.WithoutAutoNameMapping())
	}
}

// addFiles appends data files in a new snapshot, which is made without any
// file as well.
func addFiles(ctx context.Context, txn *table.Transaction, files []iceberg.DataFile, props iceberg.Properties) error {
	if len(files) > 0 {
		return txn.AddDataFiles(ctx, files, props, table.WithoutAutoNameMapping(), table.WithoutDuplicateCheck())
	}
	none, err := array.NewRecordReader(arrow.NewSchema(nil, nil), nil)
	if err != nil {
		return err
	}
	defer none.Release()
	return txn.Append(ctx, none, props)
}

// reshaped is tbl with exactly these columns and partitions. The change is
// committed together with the first commit on the table given.
func (l *Lake) reshaped(tbl *table.Table, columns []project.Column, partitionBy []string) (*table.Table, error) {
	meta := tbl.Metadata()
	updates, err := l.reshape(meta, columns, partitionBy)
	if err != nil || len(updates) == 0 {
		return tbl, err
	}
	staged, err := table.UpdateTableMetadata(meta, updates, tbl.MetadataLocation())
	if err != nil {
		return nil, fmt.Errorf("cannot change columns or partitions: %w", err)
	}
	return table.New(tbl.Identifier(), staged, tbl.MetadataLocation(), l.cat.fs, prefixed{l.cat, updates, meta}), nil
}

// reshape are the updates that give a table exactly these columns and
// partitions; none: it has them.
func (l *Lake) reshape(meta table.Metadata, columns []project.Column, partitionBy []string) ([]table.Update, error) {
	var updates []table.Update
	sc := l.schemaFor(meta.CurrentSchema(), meta.LastColumnID(), columns)
	if !sameSchema(sc, meta.CurrentSchema()) {
		updates = append(updates, table.NewAddSchemaUpdate(sc), table.NewSetCurrentSchemaUpdate(-1))
	}
	spec, err := partitionSpec(sc, partitionBy)
	if err != nil {
		return nil, err
	}
	if cur := meta.PartitionSpec(); !samePartitions(spec, &cur) {
		fresh := iceberg.NewPartitionSpec(unnumbered(spec)...)
		updates = append(updates, table.NewAddPartitionSpecUpdate(&fresh, false), table.NewSetDefaultSpecUpdate(-1))
	}
	return updates, nil
}

// unnumbered are a spec's fields without ids, for the table to number.
func unnumbered(spec *iceberg.PartitionSpec) []iceberg.PartitionField {
	var fields []iceberg.PartitionField
	for i := range spec.NumFields() {
		f := spec.Field(i)
		f.FieldID = 0
		fields = append(fields, f)
	}
	return fields
}

func sameSchema(a, b *iceberg.Schema) bool {
	fa, fb := a.Fields(), b.Fields()
	if len(fa) != len(fb) {
		return false
	}
	for i := range fa {
		if fa[i].ID != fb[i].ID || fa[i].Name != fb[i].Name || fa[i].Doc != fb[i].Doc || fa[i].Required != fb[i].Required || !fa[i].Type.Equals(fb[i].Type) {
			return false
		}
	}
	return true
}

// prefixed is a catalog that puts updates before those of the first commit, so
// that a change of columns and the rows that have them are one commit.
type prefixed struct {
	catalog
	first []table.Update
	base  table.Metadata
}

// CommitTable commits first and updates together, if base's schema and spec
// are still current.
func (p prefixed) CommitTable(ctx context.Context, ident table.Identifier, reqs []table.Requirement, updates []table.Update) (table.Metadata, string, error) {
	reqs = append([]table.Requirement{table.AssertCurrentSchemaID(p.base.CurrentSchema().ID), table.AssertDefaultSpecID(p.base.DefaultPartitionSpec())}, reqs...)
	return p.catalog.CommitTable(ctx, ident, reqs, append(append([]table.Update(nil), p.first...), updates...))
}
