package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"

	"lockstep/project"
)

// IsNull says whether a cell, as Codec.Key gives it for one column, is null.
func IsNull(cell []byte) bool { return cell[0] == tagNull }

// CompareCells orders two cells of one column that are not null as SQL does:
// text by its bytes, false before true, NaN above every number.
func CompareCells(t project.Type, a, b []byte) int {
	switch t.Kind {
	case project.String:
		return bytes.Compare(textOf(a), textOf(b))
	case project.Boolean:
		return cmp.Compare(a[0], b[0])
	case project.Double:
		return compareDoubles(math.Float64frombits(binary.BigEndian.Uint64(a[1:])), math.Float64frombits(binary.BigEndian.Uint64(b[1:])))
	case project.Timestamp:
		return cmp.Compare(int64(binary.BigEndian.Uint64(a[1:])), int64(binary.BigEndian.Uint64(b[1:])))
	case project.Decimal:
		return decimal(a).Cmp(decimal(b))
	}
	return cmp.Compare(varint(a), varint(b))
}

func textOf(cell []byte) []byte {
	_, size := binary.Uvarint(cell[1:])
	return cell[1+size:]
}

func compareDoubles(a, b float64) int {
	switch {
	case a != a && b != b:
		return 0
	case a != a:
		return 1
	case b != b:
		return -1
	}
	return cmp.Compare(a, b)
}

// TextCell is the cell of a string.
func TextCell(s string) []byte {
	return append(binary.AppendUvarint([]byte{tagValue}, uint64(len(s))), s...)
}
