// Package registry is the embedded schema registry: Confluent's REST interface
// for Avro, its schemas kept in the log's topic _schemas in Confluent's own
// format.
//
// It reads and writes _schemas and gives an http.Handler. Its state is what the
// topic says, record by record: a write is answered only after its record is
// in the log and was read back, so a restart gives the same ids, and a Confluent
// registry can take the topic over. There must be one registry on a topic; the
// embedded log's lock sees to it.
//
// Decisions, where Confluent's registry and the Avro specification leave room:
//
//   - Only AVRO. JSON and PROTOBUF schemas are refused with 42201.
//   - Two schemas are the same when their JSON is the same but for white space
//     and the order of keys, and their references are the same. With
//     normalize=true they are brought to one form first.
//   - Compatibility is Avro schema resolution. Stricter than Confluent's: types
//     must keep the meaning of their numbers. decimal(p,s) must stay as it is,
//     as the specification says; a date, time or timestamp must keep its unit
//     (timestamp-millis to timestamp-micros is refused), because a reader takes
//     the raw number. A logical type without a unit (uuid) may come and go.
//   - An id is never given twice, also not after a permanent delete.
//   - Soft-deleted schemas are found by id: records written with them remain.
//   - Metadata, rule sets, aliases, compatibility groups and contexts other
//     than the default are refused, not dropped in silence.
package registry
