package ingest

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kgo"

	"lockstep/project"
)

// topic is a source and what is known of its topic in the log.
type topic struct {
	name   string
	table  string
	source *project.Source
	target *target

	decoders map[int]*compiled         // by schema id; the judge's own
	taken    map[string]project.Column // of the table beyond the project's columns and extras

	mu      sync.Mutex
	sizes   []size // of the columns of the last step's rows
	id      string // of the topic in the log
	state   State
	message string
}

// widen adds columns to the table. Only the judge does, others may read.
func (t *topic) widen(added []project.Column) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.target.columns = append(slices.Clip(t.target.columns), added...)
}

// first gives the table's first n columns.
func (t *topic) first(n int) []project.Column {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.target.columns[:n]
}

func (t *topic) lastSizes() []size {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sizes
}

func (t *topic) remember(s []size) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sizes = s
}

func (t *topic) topicID() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.id
}

// State is how a topic fares.
type State string

// The states of a topic.
const (
	Running State = "running"
	Waiting State = "waiting" // for the registry
	Stopped State = "stopped" // until the cause is gone and ingest is started again
)

func (t *topic) set(s State, message string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != Stopped {
		t.state, t.message = s, message
	}
}

func (t *topic) status() (State, string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state, t.message
}

// compiled is a decoder, or why there is none.
type compiled struct {
	decoder *decoder
	fault   *fault
	text    string // the schema, to be recorded with its first step
	used    *draft // the last that has rows of it
}

// judge decides on records. It belongs to one goroutine.
type judge struct {
	schemas   *schemas
	maxRecord int
	log       *slog.Logger
}

// verdict on a record. The zero value is: accepted, its row is appended.
type verdict struct {
	fault  *fault
	schema int  // id in the record; 0: none
	wait   bool // for the registry; nothing is decided
	why    error
	stop   error // of the topic
}

// judge appends the record's row to the draft, or says why not.
func (j *judge) judge(t *topic, r *kgo.Record, polled time.Time, d *draft) verdict {
	if n := len(r.Key) + len(r.Value); n > j.maxRecord {
		return verdict{fault: &fault{ReasonTooLarge, fmt.Sprintf("the record has %d bytes, %d are allowed", n, j.maxRecord)}}
	}
	if r.Value == nil {
		return verdict{fault: t.tombstone(r, d.of(t))}
	}
	id, body, f := wireFormat(r.Value)
	if f != nil {
		return verdict{fault: f}
	}
	c := t.decoders[id]
	if c == nil {
		e, waiting := j.schemas.find(id, polled)
		switch {
		case waiting:
			return verdict{wait: true, why: e.failed}
		case e.reused != nil:
			return verdict{stop: e.reused}
		case e.fault != nil:
			return verdict{fault: e.fault, schema: id}
		}
		c = j.compile(t, id, e.node, d)
		c.text = e.text
	}
	if c.fault != nil {
		return verdict{fault: c.fault, schema: id}
	}
	if f := t.append(c.decoder, body, r, d.of(t)); f != nil {
		return verdict{fault: f, schema: id}
	}
	if c.used != d {
		c.used = d
		d.uses(id, c.text)
	}
	return verdict{}
}

// again appends the row of a record that was accepted before.
func (j *judge) again(t *topic, r *kgo.Record, d *draft) error {
	var f *fault
	if r.Value == nil {
		f = t.tombstone(r, d.of(t))
	} else {
		var id int
		var body []byte
		if id, body, f = wireFormat(r.Value); f == nil {
			c := t.decoders[id]
			if c == nil {
				node, err := j.schemas.recall(id)
				if err != nil {
					return err
				}
				c = j.compile(t, id, node, d)
			}
			if f = c.fault; f == nil {
				f = t.append(c.decoder, body, r, d.of(t))
			}
		}
	}
	if f != nil {
		return fmt.Errorf("topic %s, partition %d, offset %d: accepted before, now %s: %s; was the topic's schema in the project changed?", t.name, r.Partition, r.Offset, f.reason, f.detail)
	}
	return nil
}

// wireFormat takes Confluent's header off: a zero byte, a schema id.
func wireFormat(value []byte) (id int, body []byte, f *fault) {
	if len(value) > 0 && value[0] != 0 {
		return 0, nil, &fault{ReasonMagic, fmt.Sprintf("the first byte is %d, not 0: the value is not in the registry's wire format", value[0])}
	}
	if len(value) < 5 {
		return 0, nil, &fault{ReasonShort, fmt.Sprintf("the value has %d bytes; its header alone has 5", len(value))}
	}
	return int(int32(binary.BigEndian.Uint32(value[1:5]))), value[5:], nil
}

// compile makes the decoder of a schema, after the table has got the columns
// that are new in it.
func (j *judge) compile(t *topic, id int, node *avro.SchemaNode, d *draft) *compiled {
	c := &compiled{}
	added, err := t.newColumns(node)
	if err == nil && len(added) > 0 {
		t.widen(added)
		clear(t.decoders) // they leave the new columns out
		if r := d.rows[t]; r != nil {
			r.widen(t.target.columns)
		}
		for _, col := range added {
			d.facts = append(d.facts, fact{Topic: t.name, Column: col.Name, Type: col.Type.String()})
			j.log.Info("a new field appears as a column", "table", t.table, "column", col.Name, "type", col.Type.String(), "schema", id)
		}
	}
	if err == nil {
		c.decoder, err = t.target.compile(node)
	}
	if err != nil {
		c.fault = &fault{ReasonIncompatible, fmt.Sprintf("schema %d: %v", id, err)}
	}
	t.decoders[id] = c
	return c
}

var plainName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// newColumns are those that the table lacks for the fields of a schema. Fields
// that no column can hold, or whose name no column can have, are passed over.
func (t *topic) newColumns(node *avro.SchemaNode) ([]project.Column, error) {
	if node.Type != "record" || !t.target.sameName(node) {
		return nil, nil // refused by compile
	}
	n := newNames(node)
	var added []project.Column
	for i := range node.Fields {
		f := &node.Fields[i]
		name := t.target.readerName(f.Name)
		if !plainName.MatchString(name) || t.target.column(name) >= 0 {
			continue
		}
		typ, ok := n.extraType(&f.Type)
		if !ok {
			continue
		}
		if have, exists := t.taken[name]; exists {
			typ = have.Type // the table had the field before
		}
		added = append(added, extraColumn(name, typ))
	}
	// Nothing is added for a schema whose records cannot be rows anyway.
	trial := *t.target
	trial.columns = append(slices.Clone(t.target.columns), added...)
	_, err := trial.compile(node)
	return added, err
}

func extraColumn(name string, t project.Type) project.Column {
	return project.Column{Name: name, Type: t, Description: "added by a later schema of the topic"}
}

// extraType is the column type of a new field: of its only type besides null.
func (n *names) extraType(node *avro.SchemaNode) (project.Type, bool) {
	node, err := n.resolve(node)
	if err != nil {
		return project.Type{}, false
	}
	if node.Type == "union" {
		var typ project.Type
		found := 0
		for i := range node.Branches {
			if node.Branches[i].Type == "null" {
				continue
			}
			var ok bool
			if typ, ok = n.extraType(&node.Branches[i]); !ok {
				return typ, false
			}
			found++
		}
		return typ, found == 1
	}
	typ, err := columnType(node)
	return typ, err == nil
}

// append decodes a body into a row; after a fault the row is taken back.
func (t *topic) append(dec *decoder, body []byte, r *kgo.Record, into *rows) *fault {
	if f := dec.decode(body, into); f != nil {
		into.undo()
		return f
	}
	t.logColumns(r, false, into)
	return nil
}

// logColumns ends a row with where its record stood.
func (t *topic) logColumns(r *kgo.Record, deleted bool, into *rows) {
	cols := into.columns[len(t.source.Fields):]
	cols[colPartition].appendInt32(r.Partition)
	cols[colOffset].appendInt64(r.Offset)
	if at, ok := recordTime(r); ok {
		cols[colTimestamp].appendInt64(at)
	} else {
		cols[colTimestamp].appendNull()
	}
	cols[colDeleted].appendBool(deleted)
	into.n++
	into.bytes += int64(len(r.Key) + len(r.Value))
}

// recordTime is a record's time in microseconds; false: it has none, or one
// that no column can hold.
func recordTime(r *kgo.Record) (int64, bool) {
	ms := r.Timestamp.UnixMilli()
	return ms * 1000, ms != -1 && ms >= minMicros/1000 && ms <= maxMicros/1000
}

// tombstone appends the row of a deletion: the key, the record's time as event
// time, all else null.
func (t *topic) tombstone(r *kgo.Record, into *rows) *fault {
	if t.source.Tombstone != project.TombstoneDelete {
		return &fault{ReasonTombstone, "the record has no value, and the topic's rule in sources.yaml does not allow deletions"}
	}
	if r.Key == nil {
		return &fault{ReasonKey, "a deletion must have a key"}
	}
	for i := range into.columns {
		name, col := t.target.columns[i].Name, &into.columns[i]
		switch {
		case name == t.source.Key:
			if err := appendText(col, string(r.Key)); err != nil {
				into.undo()
				return &fault{ReasonKey, fmt.Sprintf("the key cannot be column %s: %v", name, err)}
			}
		case name == t.source.EventTime:
			if at, ok := recordTime(r); ok && col.typ.Kind == project.Timestamp {
				col.appendInt64(at)
			} else {
				col.appendNull()
			}
		case i < len(t.source.Fields), i >= t.target.fixed:
			col.appendNull()
		}
	}
	t.logColumns(r, true, into)
	return nil
}

var plainDecimal = regexp.MustCompile(`^[+-]?\d{1,38}(\.\d{1,38})?$`)

// appendText appends a key's text as a value of the column's type.
func appendText(col *column, s string) error {
	switch col.typ.Kind {
	case project.String:
		if !utf8.ValidString(s) {
			return fmt.Errorf("it is not UTF-8")
		}
		col.appendString([]byte(s))
		return nil
	case project.Int:
		v, err := strconv.ParseInt(s, 10, 32)
		if err == nil {
			col.appendInt32(int32(v))
		}
		return err
	case project.Bigint:
		v, err := strconv.ParseInt(s, 10, 64)
		if err == nil {
			col.appendInt64(v)
		}
		return err
	case project.Decimal:
		if !plainDecimal.MatchString(s) {
			return fmt.Errorf("%q is not a plain decimal", s)
		}
		v, err := decimal128.FromString(s, int32(col.typ.Precision), int32(col.typ.Scale))
		if err == nil {
			col.appendDec(v)
		}
		return err
	case project.Boolean:
		v, err := strconv.ParseBool(s)
		if err == nil {
			col.appendBool(v)
		}
		return err
	case project.Date:
		v, err := time.Parse(time.DateOnly, s)
		if err == nil && v.Year() < 1 {
			err = fmt.Errorf("year %d", v.Year())
		}
		if err == nil {
			col.appendInt32(int32(v.Unix() / 86400))
		}
		return err
	case project.Timestamp:
		v, err := time.Parse("2006-01-02 15:04:05.999999", strings.Replace(s, "T", " ", 1))
		if err == nil && v.Year() < 1 {
			err = fmt.Errorf("year %d", v.Year())
		}
		if err == nil {
			col.appendInt64(v.UnixMicro())
		}
		return err
	}
	return fmt.Errorf("a key cannot be a %s", col.typ)
}
