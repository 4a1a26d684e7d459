package replay

import (
	"context"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"lockstep/project"
)

const spoolBatchRows = 4 << 10

// spool reads the sorted events of one topic.
type spool struct {
	source  *project.Source
	rows    int64 // in the whole file
	parquet *file.Reader
	reader  pqarrow.RecordReader

	batch   arrow.RecordBatch // fields of the schema, then the key's text
	row     int               // in batch; the current event
	ordinal int64             // of the current event in the topic, from 0
	times   *array.Timestamp
	keys    *array.String
	ended   bool
}

func openSpool(ctx context.Context, dir string, s *project.Source) (*spool, error) {
	name := spoolFile(dir, s)
	fail := func(err error) (*spool, error) {
		return nil, fmt.Errorf("cannot read prepared events: %s: %w; delete the folder %s to have them made again", name, err, dir)
	}
	parquet, err := file.OpenParquetFile(name, false)
	if err != nil {
		return fail(err)
	}
	sp := &spool{source: s, parquet: parquet, rows: parquet.NumRows(), row: -1, ordinal: -1}
	arrowFile, err := pqarrow.NewFileReader(parquet, pqarrow.ArrowReadProperties{BatchSize: spoolBatchRows}, memory.DefaultAllocator)
	if err == nil {
		sp.reader, err = arrowFile.GetRecordReader(ctx, nil, nil)
	}
	if err != nil {
		parquet.Close()
		return fail(err)
	}
	return sp, nil
}

// seek makes the event with this ordinal the next one.
func (s *spool) seek(ordinal int64) error {
	if ordinal >= s.rows {
		s.ended, s.ordinal = true, s.rows
		return nil
	}
	if err := s.reader.SeekToRow(ordinal); err != nil {
		return fmt.Errorf("cannot seek in the prepared events of topic %s: %w", s.source.Topic, err)
	}
	s.dropBatch()
	s.ordinal = ordinal - 1
	return nil
}

// next goes to the next event; at the end, ended is set. Another batch may be
// loaded: arrays of the one before are not to be used any more.
func (s *spool) next() error {
	if s.ended {
		return nil
	}
	s.ordinal++
	s.row++
	if s.batch != nil && s.row < int(s.batch.NumRows()) {
		return nil
	}
	s.dropBatch()
	s.row = 0
	if s.ordinal >= s.rows {
		s.ended = true
		return nil
	}
	return s.load()
}

func (s *spool) load() error {
	for s.reader.Next() {
		b := s.reader.RecordBatch()
		if b.NumRows() == 0 {
			continue
		}
		b.Retain()
		s.batch = b
		return s.bind()
	}
	if err := s.reader.Err(); err != nil {
		return fmt.Errorf("cannot read the prepared events of topic %s: %w", s.source.Topic, err)
	}
	return fmt.Errorf("cannot read the prepared events of topic %s: the file ends at event %d of %d", s.source.Topic, s.ordinal, s.rows)
}

// bind finds the columns that the merge looks at.
func (s *spool) bind() error {
	var ok bool
	for i, f := range s.source.Fields {
		if f.Name == s.source.EventTime {
			s.times, ok = s.batch.Column(i).(*array.Timestamp)
		}
	}
	if !ok {
		return fmt.Errorf("cannot order the events of topic %s: event_time %s is not a timestamp field of its schema", s.source.Topic, s.source.EventTime)
	}
	s.keys, ok = s.batch.Column(len(s.source.Fields)).(*array.String)
	if !ok {
		return fmt.Errorf("cannot read the keys of topic %s: they are %s", s.source.Topic, s.batch.Column(len(s.source.Fields)).DataType())
	}
	return nil
}

func (s *spool) dropBatch() {
	if s.batch != nil {
		s.batch.Release()
		s.batch = nil
	}
}

func (s *spool) close() {
	s.dropBatch()
	s.reader.Release()
	s.parquet.Close()
}
