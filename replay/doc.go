// Package replay turns raw files, or a generator, into the change events of a
// project's topics and sends them to the log in order of event time.
//
// It reads CSV files (or runs generate/*.sql), runs sources/*.sql over them in
// DuckDB, sorts each topic once into a spool file, merges the spools and
// produces Avro records in Confluent's wire format.
//
// What it guarantees: every input is typed and checked whole before the first
// record is sent; the same inputs give the same records in the same order;
// after a stop or a crash it goes on behind the last record that the log
// holds, so that none is sent twice and none is left out; memory does not
// grow with the inputs.
//
// # What a project writes
//
// sources.yaml declares raw files with their columns; each is the table
// raw.<name> with one more column, source_line: the line on which the record
// starts. sources/_*.sql are scripts that run first, in order of name: macros
// and tables that queries share. A topic's query is one SELECT that gives the
// fields of its schema by name, in any order of rows, and source_line, which
// orders rows of the same event time and key.
//
// generate/*.sql make the raw tables without files. They see the variables
// scale and seed (getvariable('scale')), and differ by name as sources do:
// _*.sql are scripts, <name>.sql is a SELECT of the columns of raw.<name> and
// source_line. A file that reads first_unit runs once for each chunk
// [first_unit, last_unit) of [0, units); a script sets units. Whatever is made
// must depend on the variables alone, not on the chunk.
//
// # What it leaves
//
// The work folder holds inputs.json, which names the inputs and their hashes,
// and events-<hash>/ with a Parquet file per topic. Both can be deleted when
// nothing runs. Each record in the log has the header lockstep.replay: its
// position in the topic and the hash of the inputs.
package replay
