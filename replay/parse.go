package replay

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"

	"lockstep/project"
)

// appender reads the text of a field and appends its value to a column; false
// when the text is no value of the column's type.
type appender func(text []byte) bool

// newAppender is the appender for columns of a type. An empty field is null.
func newAppender(t project.Type, b array.Builder) appender {
	parse := parserFor(t, b)
	return func(text []byte) bool {
		if len(text) == 0 {
			b.AppendNull()
			return true
		}
		return parse(text)
	}
}

func parserFor(t project.Type, builder array.Builder) appender {
	switch b := builder.(type) {
	case *array.StringBuilder:
		return func(s []byte) bool { b.BinaryBuilder.Append(s); return true }
	case *array.BooleanBuilder:
		return func(s []byte) bool { return appendIf(b.Append)(parseBool(s)) }
	case *array.Int32Builder:
		return func(s []byte) bool {
			n, err := strconv.ParseInt(text(s), 10, 32)
			return appendIf(b.Append)(int32(n), err == nil)
		}
	case *array.Int64Builder:
		return func(s []byte) bool {
			n, err := strconv.ParseInt(text(s), 10, 64)
			return appendIf(b.Append)(n, err == nil)
		}
	case *array.Float64Builder:
		return func(s []byte) bool { return appendIf(b.Append)(parseDouble(s)) }
	case *array.Decimal128Builder:
		return func(s []byte) bool { return appendIf(b.Append)(parseDecimal(s, t.Precision, t.Scale)) }
	case *array.Date32Builder:
		return func(s []byte) bool {
			day, ok := parseDate(s)
			return appendIf(b.Append)(arrow.Date32(day), ok)
		}
	case *array.TimestampBuilder:
		return func(s []byte) bool {
			us, ok := parseTimestamp(s)
			return appendIf(b.Append)(arrow.Timestamp(us), ok)
		}
	}
	panic("replay: no parser for " + t.String())
}

func appendIf[T any](add func(T)) func(T, bool) bool {
	return func(v T, ok bool) bool {
		if ok {
			add(v)
		}
		return ok
	}
}

// text views bytes as a string for the length of a call.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func parseBool(s []byte) (value, ok bool) {
	switch strings.ToLower(string(s)) {
	case "true", "t", "1":
		return true, true
	case "false", "f", "0":
		return false, true
	}
	return false, false
}

// parseDouble takes finite decimal numbers only; Go's hexadecimal and
// underscored forms are not what a data file means.
func parseDouble(s []byte) (float64, bool) {
	for _, c := range s {
		if (c < '0' || c > '9') && c != '.' && c != '-' && c != '+' && c != 'e' && c != 'E' {
			return 0, false
		}
	}
	v, err := strconv.ParseFloat(text(s), 64)
	return v, err == nil && !math.IsInf(v, 0)
}

// parseDecimal reads an exact decimal; digits beyond the scale must be zeros.
func parseDecimal(s []byte, precision, scale int) (decimal128.Num, bool) {
	negative := false
	if len(s) > 0 && (s[0] == '-' || s[0] == '+') {
		negative, s = s[0] == '-', s[1:]
	}
	var n decimal128.Num
	ten := decimal128.FromI64(10)
	digits, whole, fraction := 0, 0, -1
	for _, c := range s {
		switch {
		case c == '.' && fraction < 0:
			fraction = 0
			continue
		case c < '0' || c > '9':
			return n, false
		case fraction >= scale:
			if c != '0' {
				return n, false
			}
			digits++
			continue
		case fraction >= 0:
			fraction++
		}
		digits++
		if whole > 0 || c != '0' {
			whole++
		}
		if whole > precision {
			return n, false
		}
		n = n.Mul(ten).Add(decimal128.FromI64(int64(c - '0')))
	}
	for fraction = max(fraction, 0); fraction < scale; fraction++ {
		n = n.Mul(ten)
	}
	if negative {
		n = n.Negate()
	}
	return n, digits > 0 && n.FitsInPrecision(int32(precision))
}

// parseDate reads YYYY-MM-DD as days since 1970-01-01.
func parseDate(s []byte) (int64, bool) {
	if len(s) != 10 || s[4] != '-' || s[7] != '-' {
		return 0, false
	}
	y, ok1 := number(s[:4])
	m, ok2 := number(s[5:7])
	d, ok3 := number(s[8:])
	if !ok1 || !ok2 || !ok3 || m < 1 || m > 12 || d < 1 {
		return 0, false
	}
	t := time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC)
	return t.Unix() / 86400, t.Day() == d && (t.Unix() >= 0 || t.Unix()%86400 == 0)
}

// parseTimestamp reads YYYY-MM-DD HH:MM:SS[.ffffff], or T for the space, as
// microseconds since 1970-01-01. A date alone is its midnight.
func parseTimestamp(s []byte) (int64, bool) {
	if len(s) == 10 {
		day, ok := parseDate(s)
		return day * 86400e6, ok
	}
	if len(s) < 19 || (s[10] != ' ' && s[10] != 'T') || s[13] != ':' || s[16] != ':' {
		return 0, false
	}
	day, ok := parseDate(s[:10])
	h, ok1 := number(s[11:13])
	m, ok2 := number(s[14:16])
	sec, ok3 := number(s[17:19])
	if !ok || !ok1 || !ok2 || !ok3 || h > 23 || m > 59 || sec > 59 {
		return 0, false
	}
	us, ok := microseconds(s[19:])
	return ((day*24+int64(h))*60+int64(m))*60e6 + int64(sec)*1e6 + us, ok
}

// microseconds reads a fraction ".f" to ".ffffff", or nothing.
func microseconds(s []byte) (int64, bool) {
	if len(s) == 0 {
		return 0, true
	}
	if s[0] != '.' || len(s) < 2 || len(s) > 7 {
		return 0, false
	}
	n, ok := number(s[1:])
	for i := len(s); i < 7; i++ {
		n *= 10
	}
	return int64(n), ok
}

func number(s []byte) (int, bool) {
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}
