package store

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// The layout of keys, by kind:
//
//	meta  [kind][name]                                     -> value
//	row   [kind][index, 4 BE][hash of tuple, 16][hash of row, 16] -> uvarint count, row
//	log   [kind][step, 8 BE][name]                         -> value
//
// layoutVersion changes when it does, or when the bytes of a row do.
const (
	kindFormat byte = iota // one key: the layout version
	kindMeta
	kindRow
	kindLog
)

const (
	layoutVersion = "1"
	indexLen      = 1 + 4
	prefixLen     = indexLen + 16 // all rows of one tuple have it
	rowKeyLen     = prefixLen + 16
)

// comparer orders bytewise. What it adds to the default is the prefix by which
// bloom filters are made: an index with a tuple, so that a lookup skips the
// levels that hold nothing of the tuple.
var comparer = func() *pebble.Comparer {
	c := *pebble.DefaultComparer
	c.Name = "lockstep.tuple"
	c.Split = func(key []byte) int { return min(len(key), prefixLen) }
	return &c
}()

func metaKey(name string) []byte { return append([]byte{kindMeta}, name...) }

func appendPrefix(dst []byte, index uint32, tuple Hash) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, kindRow), index)
	return append(dst, tuple[:]...)
}

// indexBounds is the range of an index: [start, end).
func indexBounds(index uint32) (start, end []byte) {
	start = binary.BigEndian.AppendUint32([]byte{kindRow}, index)
	if index == 1<<32-1 {
		return start, []byte{kindRow + 1}
	}
	return start, binary.BigEndian.AppendUint32([]byte{kindRow}, index+1)
}

// logKey orders steps as numbers, negative ones too.
func logKey(step int64, name string) []byte {
	key := binary.BigEndian.AppendUint64([]byte{kindLog}, uint64(step)^(1<<63))
	return append(key, name...)
}

// logEnd is behind every key of steps up to and with step.
func logEnd(step int64) []byte {
	if step == 1<<63-1 {
		return []byte{kindLog + 1}
	}
	return logKey(step+1, "")
}

func parseLogKey(key []byte) (step int64, name string) {
	return int64(binary.BigEndian.Uint64(key[1:]) ^ (1 << 63)), string(key[9:])
}

// rowOf takes the value of a row key apart.
func rowOf(value []byte) (row []byte, count int, err error) {
	n, size := binary.Uvarint(value)
	if size <= 0 || n == 0 || n > 1<<31 {
		return nil, 0, fmt.Errorf("%w: the count of a row cannot be read", ErrCorrupt)
	}
	return value[size:], int(n), nil
}
