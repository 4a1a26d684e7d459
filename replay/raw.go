package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"lockstep/project"
)

const (
	// sourceLine is the column that each raw table has behind its own: the
	// line of the file on which the record starts.
	sourceLine = "source_line"
	// faultsPerFile are told of one file; more would hide the other files'.
	faultsPerFile = 5
	rawBatchRows  = 16 << 10
)

// Check reads the raw files in dir whole and types every field. The error is
// of type project.Problems: each names file, line, column and remedy. A field
// that is empty is null; further columns of a file are not looked at, except
// that the whole file must be UTF-8.
func Check(ctx context.Context, dir string, files []*project.RawFile) error {
	return eachRaw(dir, files, func(r *rawReader) error {
		for r.Next() {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		return nil
	})
}

// eachRaw opens file by file and lets read consume it, then gathers the
// faults of all of them.
func eachRaw(dir string, files []*project.RawFile, read func(*rawReader) error) error {
	if err := checkFolder(dir, files); err != nil {
		return err
	}
	var faults project.Problems
	for _, f := range files {
		r, err := openRaw(dir, f)
		if err == nil {
			err = read(r)
			r.close()
			if !errors.Is(err, context.Canceled) {
				err = errors.Join(r.failure, r.problems.Err(), err)
			}
		}
		var found project.Problems
		if errors.As(err, &found) {
			faults = append(faults, found...)
		} else if err != nil {
			return err
		}
	}
	return faults.Err()
}

func checkFolder(dir string, files []*project.RawFile) error {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fmt.Errorf("cannot read raw files: %s is not a folder; give --data the folder that holds %s", dir, fileNames(files))
	}
	return nil
}

func missingFile(path string) project.Problems {
	return project.Problems{{File: path, What: "the file is missing", Do: "put it there, under exactly this name"}}
}

func fileNames(files []*project.RawFile) string {
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.File
	}
	return strings.Join(names, ", ")
}

// rawReader reads a CSV file as Arrow record batches of the declared columns
// and source_line. It is an array.RecordReader, so that DuckDB can pull from
// it; what it finds wrong is in problems, and it ends early then.
type rawReader struct {
	file     *os.File
	raw      *project.RawFile
	scan     *csvScanner
	header   []string
	position []int // of each declared column in a record
	builder  *array.RecordBuilder
	append   []appender
	lines    *array.Int64Builder
	batch    arrow.RecordBatch
	problems project.Problems
	failure  error // the file cannot be read
	done     bool
	refs     atomic.Int64
}

func openRaw(dir string, f *project.RawFile) (*rawReader, error) {
	path := filepath.Join(dir, f.File)
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, missingFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open raw file: %w", err)
	}
	r := &rawReader{file: file, raw: f, scan: newCSVScanner(file)}
	r.refs.Store(1)
	schema := rawSchema(f)
	r.builder = array.NewRecordBuilder(memory.DefaultAllocator, schema)
	for i, c := range f.Columns {
		r.append = append(r.append, newAppender(c.Type, r.builder.Field(i)))
	}
	r.lines = r.builder.Field(len(f.Columns)).(*array.Int64Builder)
	r.readHeader()
	return r, nil
}

// rawColumns are those of the table raw.<name>.
func rawColumns(f *project.RawFile) []project.Column {
	return append(slices.Clone(f.Columns), project.Column{Name: sourceLine, Type: project.Type{Kind: project.Bigint}})
}

func rawSchema(f *project.RawFile) *arrow.Schema { return project.ArrowSchema(rawColumns(f)) }

func (r *rawReader) close() {
	r.Release()
	r.file.Close()
}

func (r *rawReader) readHeader() {
	err := r.scan.skipMark()
	if err == nil {
		err = r.scan.scan()
	}
	if err == io.EOF {
		r.fault(0, "the file is empty", "download or export it again")
		r.done = true
		return
	}
	if err != nil {
		r.broken(err)
		return
	}
	for _, f := range r.scan.fields {
		r.header = append(r.header, strings.TrimSpace(string(f)))
	}
	for _, c := range r.raw.Columns {
		at := slices.Index(r.header, c.Name)
		r.position = append(r.position, at)
		if at < 0 {
			r.fault(1, fmt.Sprintf("column %s is missing; the header has %s", c.Name, r.columnList()), "the first line must name every column that sources.yaml declares for the file")
			r.done = true
		} else if slices.Contains(r.header[at+1:], c.Name) {
			r.fault(1, fmt.Sprintf("column %s stands twice in the header", c.Name), "name each column once")
			r.done = true
		}
	}
}

// columnList is the header for a message: printable, and short even when the
// file is not what it should be.
func (r *rawReader) columnList() string {
	s := strings.ToValidUTF8(strings.Join(r.header, ", "), "\uFFFD")
	if runes := []rune(s); len(runes) > 300 {
		s = string(runes[:300]) + "..."
	}
	return s
}

func (r *rawReader) fault(line int, what, remedy string) {
	r.problems.Add(r.file.Name(), line, remedy, "%s", what)
}

// broken notes that the file cannot be read on.
func (r *rawReader) broken(err error) {
	r.done = true
	var at *csvError
	if !errors.As(err, &at) {
		r.failure = fmt.Errorf("cannot read %s: %w", r.file.Name(), err)
		return
	}
	what := at.text
	if at.field >= 0 && at.field < len(r.header) {
		what = fmt.Sprintf("column %s: %s", r.header[at.field], at.text)
	}
	r.fault(at.line, what, "close the quote, or double each quote that belongs to the text (RFC 4180)")
}

// Next reads the next record batch; false at the end of the file or at the
// last fault that is told.
func (r *rawReader) Next() bool {
	r.drop()
	for rows := 0; rows < rawBatchRows && !r.done; rows++ {
		err := r.scan.scan()
		if err == io.EOF {
			r.done = true
		} else if err != nil {
			r.broken(err)
		} else {
			r.readRecord()
		}
	}
	if len(r.problems) > 0 || r.failure != nil || r.lines.Len() == 0 {
		return false
	}
	r.batch = r.builder.NewRecordBatch()
	return true
}

func (r *rawReader) readRecord() {
	fields := r.scan.fields
	if len(fields) != len(r.header) {
		r.fault(r.scan.line, fmt.Sprintf("the record has %d fields, the header names %d", len(fields), len(r.header)), "give each record as many fields as the header; quote a field that holds commas or line breaks")
	} else if !utf8.Valid(r.scan.record) {
		at := slices.IndexFunc(fields, func(f []byte) bool { return !utf8.Valid(f) })
		r.fault(r.scan.line, fmt.Sprintf("column %s: %q is not UTF-8", r.header[max(at, 0)], clip(fields[max(at, 0)])), "convert the file to UTF-8, for example with iconv")
	} else {
		r.appendRecord(fields)
	}
	r.done = r.done || len(r.problems) >= faultsPerFile
}

func (r *rawReader) appendRecord(fields [][]byte) {
	for i, appendText := range r.append {
		field := fields[r.position[i]]
		if !appendText(field) {
			c := r.raw.Columns[i]
			r.fault(r.scan.line, fmt.Sprintf("column %s: %q is not %s", c.Name, clip(field), typeInWords(c.Type)), "correct the value, or leave it empty for null")
			r.builder.Field(i).AppendNull()
		}
	}
	r.lines.Append(int64(r.scan.line))
}

func clip(b []byte) []byte {
	if len(b) > 60 {
		return append(bytes.Clone(b[:60]), "..."...)
	}
	return b
}

// typeInWords says what a field of a type looks like.
func typeInWords(t project.Type) string {
	switch t.Kind {
	case project.Boolean:
		return "a boolean (true or false)"
	case project.Int:
		return "a whole number of 32 bits"
	case project.Bigint:
		return "a whole number of 64 bits"
	case project.Double:
		return "a number"
	case project.Decimal:
		return fmt.Sprintf("a number that %s holds exactly", t)
	case project.Date:
		return "a date (YYYY-MM-DD)"
	case project.Timestamp:
		return "a time (YYYY-MM-DD HH:MM:SS)"
	}
	return "a " + string(t.Kind)
}

func (r *rawReader) drop() {
	if r.batch != nil {
		r.batch.Release()
		r.batch = nil
	}
}

// The rest of array.RecordReader. DuckDB keeps a reference of its own.

func (r *rawReader) Retain()                        { r.refs.Add(1) }
func (r *rawReader) Schema() *arrow.Schema          { return r.builder.Schema() }
func (r *rawReader) RecordBatch() arrow.RecordBatch { return r.batch }
func (r *rawReader) Record() arrow.RecordBatch      { return r.batch }
func (r *rawReader) Release() {
	if r.refs.Add(-1) == 0 {
		r.drop()
		r.builder.Release()
	}
}

// Err is nil: problems and failure are looked at after the load, since DuckDB
// would only hand on their text.
func (r *rawReader) Err() error { return nil }
