package store

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/zeebo/xxh3"
)

// Batch is everything that a step changes. Later calls win over earlier ones.
// Reads do not see it before Commit, and then all of it. It is for one
// goroutine and for one Commit, and is held in memory.
type Batch struct {
	store *Store
	b     *pebble.Batch
}

// NewBatch starts a batch; end it with Commit or Discard.
func (s *Store) NewBatch() *Batch { return &Batch{store: s, b: s.db.NewBatch()} }

// Set says how often a row is in an index under a tuple; 0 deletes it.
func (b *Batch) Set(index uint32, tuple Hash, row []byte, count int) {
	if count < 0 {
		panic(fmt.Sprintf("store: count %d of a row", count))
	}
	if count == 0 {
		op := b.b.DeleteDeferred(rowKeyLen)
		putRowKey(op.Key, index, tuple, row)
		must(op.Finish())
		return
	}
	var head [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(head[:], uint64(count))
	op := b.b.SetDeferred(rowKeyLen, n+len(row))
	putRowKey(op.Key, index, tuple, row)
	copy(op.Value[copy(op.Value, head[:n]):], row)
	must(op.Finish())
}

func putRowKey(key []byte, index uint32, tuple Hash, row []byte) {
	appendPrefix(key[:0], index, tuple)
	hash := xxh3.Hash128(row).Bytes()
	copy(key[prefixLen:], hash[:])
}

// DeleteIndex deletes all rows of an index.
func (b *Batch) DeleteIndex(index uint32) {
	start, end := indexBounds(index)
	must(b.b.DeleteRange(start, end, nil))
}

// SetMeta keeps a small value by name; nil deletes it.
func (b *Batch) SetMeta(name string, value []byte) {
	if value == nil {
		must(b.b.Delete(metaKey(name), nil))
		return
	}
	must(b.b.Set(metaKey(name), value, nil))
}

// PutLog keeps a blob by step and name, until DropLog.
func (b *Batch) PutLog(step int64, name string, value []byte) {
	must(b.b.Set(logKey(step, name), value, nil))
}

// DropLog deletes the blobs of all steps up to and with one.
func (b *Batch) DropLog(upTo int64) {
	must(b.b.DeleteRange([]byte{kindLog}, logEnd(upTo), nil))
}

// Len is the size of the batch in bytes.
func (b *Batch) Len() int { return b.b.Len() }

// Commit writes the batch, all or nothing, and returns when it is on disk. A
// failure to write does not come back: see Options.Fatal.
func (b *Batch) Commit() error {
	defer b.b.Close()
	if err := b.b.Commit(pebble.Sync); err != nil {
		return b.store.failed("write", err)
	}
	return nil
}

// Discard drops the batch.
func (b *Batch) Discard() { b.b.Close() }

// must panics: adding to a batch fails only when it was committed before or
// holds more than 4 GB, and both are faults of the caller.
func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("store: cannot add to batch: %v", err))
	}
}
