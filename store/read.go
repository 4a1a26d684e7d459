package store

import (
	"bytes"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// Meta gives a small value by name, nil if it was never set.
func (s *Store) Meta(name string) ([]byte, error) {
	value, err := s.get(metaKey(name))
	if err != nil {
		return nil, s.failed("read", err)
	}
	return value, nil
}

func (s *Store) get(key []byte) ([]byte, error) {
	value, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return append([]byte{}, value...), closer.Close()
}

// Lookup gives all rows of some tuples of an index, each row as often as it
// counts. The order of rows says nothing. A tuple asked for twice counts once.
func (s *Store) Lookup(index uint32, tuples []Hash) (Rows, error) {
	rows, err := s.lookup(index, sorted(tuples))
	if err != nil {
		return Rows{}, s.failed("read", err)
	}
	return rows, nil
}

// sorted gives the tuples in key order, so that seeks go forward only.
func sorted(tuples []Hash) []Hash {
	out := slices.Clone(tuples)
	slices.SortFunc(out, func(a, b Hash) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(out)
}

func (s *Store) lookup(index uint32, tuples []Hash) (rows Rows, err error) {
	start, end := indexBounds(index)
	// A live step asks for many tuples that are not there yet (new keys), and a
	// filter answers that at a tenth of what a data block costs. With them a step
	// costs the same over ten times the history, without them half as much again;
	// the price is cache: filters of all tuples, 10 bits each, should fit.
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: start, UpperBound: end, UseL6Filters: true})
	if err != nil {
		return rows, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	var prefix []byte
	for _, tuple := range tuples {
		prefix = appendPrefix(prefix[:0], index, tuple)
		for ok := it.SeekPrefixGE(prefix); ok; ok = it.Next() {
			if err := appendRow(&rows, it); err != nil {
				return rows, err
			}
		}
		if err := it.Error(); err != nil {
			return rows, err
		}
	}
	return rows, nil
}

func appendRow(rows *Rows, it *pebble.Iterator) error {
	value, err := it.ValueAndErr()
	if err != nil {
		return err
	}
	row, count, err := rowOf(value)
	for ; count > 0; count-- {
		rows.Append(row)
	}
	return err
}

// ScanIndex calls f for every row of an index, with its count, in no order that
// means anything. The row is valid during the call. It sees the store as it was
// when the scan began. An error of f ends it and is returned as it is.
func (s *Store) ScanIndex(index uint32, f func(row []byte, count int) error) error {
	start, end := indexBounds(index)
	return s.scan(start, end, func(_, value []byte) error {
		row, count, err := rowOf(value)
		if err != nil {
			return s.failed("read", err)
		}
		return f(row, count)
	})
}

// Log calls f for every blob of the log from a step on, in order of step, then
// name. The value is valid during the call. An error of f ends it and is
// returned as it is.
func (s *Store) Log(from int64, f func(step int64, name string, value []byte) error) error {
	return s.scan(logKey(from, ""), []byte{kindLog + 1}, func(key, value []byte) error {
		step, name := parseLogKey(key)
		return f(step, name, value)
	})
}

func (s *Store) scan(start, end []byte, f func(key, value []byte) error) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: start, UpperBound: end})
	if err != nil {
		return s.failed("read", err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return s.failed("read", err)
		}
		if err := f(it.Key(), value); err != nil {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return s.failed("read", err)
	}
	return nil
}
