package replay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxRecordBytes bounds one CSV record. A quote that is never closed would
// otherwise swallow the rest of a file of any size.
const maxRecordBytes = 16 << 20

// csvError is a fault in the structure of a CSV file.
type csvError struct {
	line  int
	field int // from 0; -1 when no field is at fault
	text  string
}

func (e *csvError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.text) }

// csvScanner splits a CSV stream (RFC 4180, LF or CRLF) into records and
// knows the line on which each starts. It differs from encoding/csv in
// handing out byte slices and in its messages.
type csvScanner struct {
	in         io.Reader
	buf        []byte
	start, end int
	eof        bool
	nextLine   int

	line     int      // where the current record starts, from 1
	record   []byte   // bytes of the current record
	fields   [][]byte // valid until the next call
	unquoted []byte   // room for fields with doubled quotes
}

var byteOrderMark = []byte("\xef\xbb\xbf")

func newCSVScanner(in io.Reader) *csvScanner {
	return &csvScanner{in: in, buf: make([]byte, 256<<10), nextLine: 1}
}

// skipMark drops a byte order mark at the very start of the stream.
func (s *csvScanner) skipMark() error {
	for s.end < len(byteOrderMark) && !s.eof {
		if err := s.fill(); err != nil {
			return err
		}
	}
	if bytes.HasPrefix(s.buf[:s.end], byteOrderMark) {
		s.start = len(byteOrderMark)
	}
	return nil
}

// scan reads the next record; io.EOF at the end. Blank lines are passed over.
func (s *csvScanner) scan() error {
	for {
		n, err := s.split(s.buf[s.start:s.end])
		if errors.Is(err, errMore) {
			if err := s.fill(); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.EOF
		}
		s.record = s.buf[s.start : s.start+n]
		s.start += n
		s.line = s.nextLine
		s.nextLine += bytes.Count(s.record, []byte{'\n'})
		if !blank(s.record) {
			return nil
		}
	}
}

func blank(record []byte) bool { return len(bytes.TrimRight(record, "\r\n")) == 0 }

// fill moves the open record to the front of the buffer and reads on.
func (s *csvScanner) fill() error {
	if s.start > 0 {
		s.end = copy(s.buf, s.buf[s.start:s.end])
		s.start = 0
	}
	if s.end == len(s.buf) {
		if s.end >= maxRecordBytes {
			return &csvError{s.nextLine, -1, fmt.Sprintf("the record that starts here is longer than %d MB; a quote is probably not closed", maxRecordBytes>>20)}
		}
		s.buf = append(s.buf, make([]byte, len(s.buf))...)
	}
	n, err := s.in.Read(s.buf[s.end:])
	s.end += n
	if err == io.EOF {
		s.eof = true
		return nil
	}
	return err
}

var errMore = errors.New("record is not complete")

// split finds the fields of the first record of b and its length, line end
// included.
func (s *csvScanner) split(b []byte) (int, error) {
	s.fields, s.unquoted = s.fields[:0], s.unquoted[:0]
	if len(b) == 0 {
		if s.eof {
			return 0, nil
		}
		return 0, errMore
	}
	at := 0
	for {
		var n int
		var last bool
		var err error
		if at < len(b) && b[at] == '"' {
			n, last, err = s.quotedField(b, at)
		} else {
			n, last, err = s.plainField(b, at)
		}
		if err != nil {
			return 0, err
		}
		at += n
		if last {
			return at, nil
		}
	}
}

// plainField takes the field at b[at:] and says how many bytes it used,
// separator included, and whether it ended the record.
func (s *csvScanner) plainField(b []byte, at int) (int, bool, error) {
	rest := b[at:]
	n := bytes.IndexAny(rest, ",\n")
	if n < 0 && !s.eof {
		return 0, false, errMore
	}
	end := n
	if n < 0 {
		end = len(rest)
	}
	field := rest[:end]
	last := n < 0 || rest[n] == '\n'
	if last {
		field = bytes.TrimSuffix(field, []byte{'\r'})
	}
	if bytes.IndexByte(field, '"') >= 0 {
		return 0, false, s.fault(b[:at], "a quote stands inside a field that does not start with one")
	}
	s.fields = append(s.fields, field)
	if n < 0 {
		return end, true, nil
	}
	return end + 1, last, nil
}

// quotedField is plainField for a field that starts with a quote.
func (s *csvScanner) quotedField(b []byte, at int) (int, bool, error) {
	rest := b[at+1:]
	mark, from, used := len(s.unquoted), 0, 0
	var field []byte
	for {
		q := bytes.IndexByte(rest[used:], '"')
		if q < 0 || (used+q+1 == len(rest) && !s.eof) {
			if !s.eof {
				return 0, false, errMore
			}
			return 0, false, s.fault(b[:at], "the quoted field is not closed before the end of the file")
		}
		used += q + 1
		if used < len(rest) && rest[used] == '"' { // a doubled quote stands for one
			s.unquoted = append(s.unquoted, rest[from:used]...)
			used++
			from = used
			continue
		}
		field = rest[from : used-1]
		break
	}
	if from > 0 {
		s.unquoted = append(s.unquoted, field...)
		field = s.unquoted[mark:]
	}
	s.fields = append(s.fields, field)
	n, last, err := s.separator(rest[used:])
	if err != nil && !errors.Is(err, errMore) {
		err = s.fault(b[:at+1+used], "text follows the closing quote of a field")
	}
	return 1 + used + n, last, err
}

var errSeparator = errors.New("no separator")

// separator takes the comma or line end that must follow a closing quote.
func (s *csvScanner) separator(b []byte) (int, bool, error) {
	switch {
	case len(b) == 0 && s.eof:
		return 0, true, nil
	case len(b) == 0, len(b) == 1 && b[0] == '\r' && !s.eof:
		return 0, false, errMore
	case b[0] == ',':
		return 1, false, nil
	case b[0] == '\n':
		return 1, true, nil
	case b[0] == '\r' && len(b) == 1:
		return 1, true, nil
	case b[0] == '\r' && b[1] == '\n':
		return 2, true, nil
	}
	return 0, false, errSeparator
}

// fault is an error in the field that starts behind before, which begins with
// the record. The line is the record's first, as an editor would show it; a
// field further down names its own line as well.
func (s *csvScanner) fault(before []byte, text string) error {
	if down := bytes.Count(before, []byte{'\n'}); down > 0 {
		text = fmt.Sprintf("%s (on line %d)", text, s.nextLine+down)
	}
	field := len(s.fields)
	if bytes.HasSuffix(before, []byte{'"'}) && field > 0 {
		field-- // the field was taken already
	}
	return &csvError{s.nextLine, field, text}
}
