// Package ingest is the way from the log into the tables: it reads the topics
// of a project, judges every record once, numbers what it accepted in steps,
// and appends it to bronze.
//
// It reads the log (Kafka protocol, read committed) and schemas of a registry;
// it writes step records in its state folder, dead letters to dlq.<topic>, and
// bronze tables in the lake; it hands steps to the speed layer.
//
// What it guarantees:
//
//   - A record is judged once: accepted or dead letter. The verdict is in the
//     step record, which is on disk before anything of the step is handed on.
//     A step formed again after a restart has the same rows.
//   - Every accepted record is in bronze once: rows and offsets are one commit,
//     on top of the snapshot whose offsets were read.
//   - Every dead letter is in dlq.<topic> once, before its step is recorded.
//   - A registry that does not answer makes a topic wait. A topic that was made
//     anew, or whose log lost records that were not read, stops and says what
//     to do. The other topics flow.
//
// Decisions that a producer meets:
//
//   - Values are in Confluent's wire format: a zero byte, the schema's id, Avro.
//     Fields become columns by name or alias, types by Avro's promotions; beyond
//     them a long that fits may become an int, and decimals change scale where
//     that loses nothing. The record's name must be the contract's. The subject
//     under which the schema was registered does not matter.
//   - A field that only the writer has becomes a column of the bronze table at
//     once, if a column can hold it; models see it when the project's schema has
//     it. A field that only the contract has gets its default, or null.
//   - The message key is not compared with the key column: it may be missing or
//     in a format of its own. Only a deletion needs it, as the key column's text.
//   - Dates and times outside the years 1 to 9999 are dead letters.
//
// How a record flows: gather polls the log and lets the judge append accepted
// rows to the columns of a draft; when the consumer of steps is free, the draft
// is sealed: dead letters, then the step record, then bronze's queue and the
// consumer. So steps are small when the log is quiet and large when it is not.
package ingest
