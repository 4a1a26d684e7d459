// Package store is the keyed state of the stream: the rows of every table, as
// multisets, found by tuples of their columns, on one disk in one pebble
// database.
//
// It reads and writes record batches (a Codec turns them into row bytes and
// back) and gives:
//
//   - Lookup: all rows of some thousand tuples, at a cost that does not grow
//     with the history in the store,
//   - Batch: everything that a step changes, committed and synced as one,
//   - a log of blobs by step, kept until DropLog,
//   - BulkLoad: whole indexes replaced at once, to rebuild a lost store.
//
// A store is another copy of data that stands in bronze: a lost or corrupt one
// is removed and rebuilt. Nothing here knows what a table means.
package store
