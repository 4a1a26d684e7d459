package main

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"lockstep/lake"
	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

var commits = flag.Int("commits", 5000, "commits of the day figure; 86400 is a day of one a second")

// day commits one row after another to a bronze table, with the upkeep that
// ingest does, and counts what is left on disk: it must not grow with time.
func (b *figures) day(ctx context.Context) error {
	dir := filepath.Join(b.dir, "day")
	l, err := lake.Open(ctx, dir)
	if err != nil {
		return err
	}
	defer l.Close()
	columns := []project.Column{{Name: "key", Type: project.Type{Kind: project.String}}, {Name: "_partition", Type: project.Type{Kind: project.Int}}, {Name: "_offset", Type: project.Type{Kind: project.Bigint}}}
	table, err := l.Bronze(ctx, "bronze.day", columns)
	if err != nil {
		return err
	}
	up := lake.DefaultUpkeep()
	up.KeepFor = 0 // a day in minutes: by the clock every snapshot would be young
	begin := time.Now()
	for n := 1; n <= *commits; n++ {
		if _, err := table.Append(ctx, []arrow.RecordBatch{oneRow(columns, n)}, lake.Position{TopicID: "t", Offsets: map[int32]int64{0: int64(n)}, Step: int64(n)}); err != nil {
			return err
		}
		if n%50 == 0 {
			if _, err := l.Maintain(ctx, nil, up); err != nil {
				return err
			}
		}
		if n == *commits/10 || n == *commits {
			files, metadata, bytes := sizes(dir)
			figure(fmt.Sprintf("after %d one-row commits: data files", n), "%d", files, "%d metadata files of %d KB together, %.1f ms a commit", metadata, bytes>>10, time.Since(begin).Seconds()*1000/float64(n))
		}
	}
	return nil
}

func oneRow(columns []project.Column, n int) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, project.ArrowSchema(columns))
	defer b.Release()
	b.Field(0).(*array.StringBuilder).Append(fmt.Sprint("key ", n))
	b.Field(1).(*array.Int32Builder).Append(0)
	b.Field(2).(*array.Int64Builder).Append(int64(n))
	return b.NewRecordBatch()
}

// sizes counts data files, metadata files and the latter's bytes.
func sizes(dir string) (data, metadata, bytes int64) {
	filepath.WalkDir(filepath.Join(dir, "warehouse"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if filepath.Ext(path) == ".parquet" {
			data++
			return nil
		}
		metadata++
		if info, err := d.Info(); err == nil {
			bytes += info.Size()
		}
		return nil
	})
	return data, metadata, bytes
}
