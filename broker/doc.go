// Package broker is the embedded log: franz-go's kfake in process, on its data
// directory, with every acknowledged record synced to disk.
//
// It reads nothing of the project and gives Kafka's protocol on a socket. It is
// a durable log on one disk. It is not replicated: who loses the disk loses the
// log. In cluster mode Apache Kafka takes its place and only the address
// changes.
//
// What it promises beyond kfake, because kfake is written for tests:
//
//   - Damage in the middle of a segment is refused on Open; kfake would cut the
//     segment there and drop acknowledged records. Only the torn end of the last
//     segment, which no client was told of, is cut.
//   - After a crash the partitions' snapshots and the producers' sequence
//     numbers are rebuilt from the segments before kfake opens them, one batch
//     in memory at a time. A producer that lives on across the crash is neither
//     refused nor written twice.
//   - kfake's compaction is never run: it removes the old segments before it
//     writes the new ones. A topic with cleanup.policy=compact keeps all its
//     records. Retention never empties a topic partition, because kfake starts
//     an emptied one at offset 0 again after a restart.
//   - When the disk is nearly full, producing is refused with
//     KAFKA_STORAGE_ERROR, on which clients retry; it goes on when there is room.
//   - One process at a time: the directory is locked.
//
// Topics are not created by a client that merely names one, unless
// Options.AutoCreateTopics says so: topics are declared by the project, and a
// misspelt one should fail at its producer.
package broker
