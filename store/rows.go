package store

import "github.com/zeebo/xxh3"

// Rows is a list of encoded rows in one arena: no allocation per row. The zero
// value is empty and ready. A copy shares the arena; append to one of them only.
type Rows struct {
	arena []byte
	ends  []int // ends[i] is where row i ends in arena
}

// Len is the number of rows.
func (r *Rows) Len() int { return len(r.ends) }

// At is row i, valid as long as r; do not change it.
func (r *Rows) At(i int) []byte {
	start := 0
	if i > 0 {
		start = r.ends[i-1]
	}
	return r.arena[start:r.ends[i]:r.ends[i]]
}

// Append adds a copy of row.
func (r *Rows) Append(row []byte) {
	r.arena = append(r.arena, row...)
	r.ends = append(r.ends, len(r.arena))
}

// Size is the memory that the rows take, in bytes.
func (r *Rows) Size() int { return cap(r.arena) + 8*cap(r.ends) }

// Reset empties r and keeps its memory for the next rows.
func (r *Rows) Reset() { r.arena, r.ends = r.arena[:0], r.ends[:0] }

// Hash stands for a tuple in an index. Two tuples with one hash would be taken
// for the same; at 128 bits that is not expected to happen: one chance in 10^18
// for ten billion tuples.
type Hash [16]byte

// HashOf is the hash of a tuple's bytes as Codec.Key gives them.
func HashOf(tuple []byte) Hash { return xxh3.Hash128(tuple).Bytes() }
