// Package replay turns raw files, or a generator, into the change events of a
// project's topics and sends them to the log in order of event time.
//
// It reads CSV files (or generate/*.sql), runs sources/*.sql over them in
// DuckDB, sorts each topic once into a spool file, merges the spools and
// produces Avro records in Confluent's wire format.
//
// What it guarantees: every input is typed and checked whole before the first
// record is sent; the same inputs give the same records in the same order;
// after a stop or a crash it goes on behind the last record that the log
// holds, so that none is sent twice and none is left out; memory does not
// grow with the inputs.
package replay
