package web

import (
	"context"
	"errors"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"lockstep/lake"
)

// fake answers what a state might.
type fake struct {
	status  Status
	last    any   // what was asked last
	err     error // of everything
	rowsErr error // after the rows
}

func (f *fake) Query(_ context.Context, q Query) (*Result, error) {
	f.last = q
	if f.err != nil {
		return nil, f.err
	}
	return &Result{Step: 7, Manifest: 3, Frozen: "rolled back – until released", Rows: &brokenRows{sampleRows(), f.rowsErr}}, nil
}

func (f *fake) Verify(_ context.Context, step int64) (*VerifyReport, error) {
	f.last = step
	return &VerifyReport{Step: step, Models: []ModelReport{{Model: "a.b", Served: &Comparison{Rows: 2, Missing: 1}}}}, f.err
}

func (f *fake) Status(context.Context) (*Status, error) {
	if f.err != nil {
		return nil, f.err
	}
	return &f.status, nil
}

func (f *fake) History(context.Context) ([]lake.Manifest, error) {
	return []lake.Manifest{{ID: 2, Parent: 1, Step: 9, Tables: map[string]int64{"a.b": 4}}}, f.err
}

func (f *fake) Rollback(_ context.Context, id int64) error { f.last = id; return f.err }
func (f *fake) Release(context.Context) error              { f.last = "release"; return f.err }
func (f *fake) Maintain(_ context.Context, r MaintainRequest) (*MaintainReport, error) {
	f.last = r
	return &MaintainReport{Tables: []TableUpkeep{{Table: "a.b", FilesBefore: 9, FilesAfter: 1}}}, f.err
}

func (f *fake) Batch(_ context.Context, r BatchRequest) (*BatchReport, error) {
	f.last = r
	return &BatchReport{Run: "r1", Step: 9}, f.err
}

func (f *fake) DeadLetters(_ context.Context, l LetterFilter) ([]Letter, error) {
	f.last = l
	return []Letter{{Topic: "t", Partition: 1, Offset: 5, Value: []byte{0, 1}}}, f.err
}

func (f *fake) ReplayLetters(_ context.Context, l LetterFilter) (int, error) {
	f.last = l
	return 4, f.err
}

// brokenRows end with an error, if there is one.
type brokenRows struct {
	array.RecordReader
	err error
}

func (b *brokenRows) Err() error { return errors.Join(b.err, b.RecordReader.Err()) }

// sampleRows have two rows of every type that matters: values, then nulls.
func sampleRows() array.RecordReader {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "d", Type: &arrow.Decimal128Type{Precision: 12, Scale: 2}, Nullable: true},
		{Name: "f", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "b", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: "day", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
		{Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Microsecond}, Nullable: true},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	at := time.Date(2026, 3, 1, 10, 0, 0, 250e6, time.UTC)
	b.Field(0).(*array.StringBuilder).Append(`say "hi"`)
	b.Field(1).(*array.Int64Builder).Append(1 << 60)
	b.Field(2).(*array.Decimal128Builder).Append(decimal128.FromI64(-5))
	b.Field(3).(*array.Float64Builder).Append(0.1)
	b.Field(4).(*array.BooleanBuilder).Append(true)
	b.Field(5).(*array.Date32Builder).Append(arrow.Date32FromTime(at))
	b.Field(6).(*array.TimestampBuilder).Append(arrow.Timestamp(at.UnixMicro()))
	for i := range schema.Fields() {
		b.Field(i).AppendNull()
	}
	batch := b.NewRecordBatch()
	rows, err := array.NewRecordReader(schema, []arrow.RecordBatch{batch})
	if err != nil {
		panic(err)
	}
	return rows
}
