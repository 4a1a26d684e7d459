package ingest

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Reasons for which a record is a dead letter. They are the values of the
// header lockstep.dlq.reason and of the metric's label.
const (
	ReasonMagic        = "wrong_magic_byte"    // not Confluent's wire format
	ReasonShort        = "short_header"        // fewer than five bytes
	ReasonUnknown      = "unknown_schema"      // the registry has no schema of that id
	ReasonUnusable     = "unusable_schema"     // it is no Avro record schema
	ReasonIncompatible = "incompatible_schema" // its fields cannot become the table's columns
	ReasonTruncated    = "truncated"           // the body ends too early
	ReasonTrailing     = "trailing_bytes"      // something follows the body
	ReasonMalformed    = "malformed"           // the body is not Avro of the schema
	ReasonRange        = "value_out_of_range"  // a value does not fit its column
	ReasonText         = "invalid_utf8"        // a string is not UTF-8
	ReasonNull         = "null_not_allowed"    // a field that must have a value is null
	ReasonTombstone    = "tombstone"           // no value, where the topic's rule forbids that
	ReasonKey          = "unusable_key"        // a tombstone whose key does not name one
	ReasonTooLarge     = "too_large"           // more bytes than Config.MaxRecordBytes
)

// fault is why a record is not accepted.
type fault struct {
	reason, detail string
}

// cursor reads an Avro body. After the first fault all reads give zero values,
// so that only the end of a field needs to look.
type cursor struct {
	b     []byte
	i     int
	work  int // items that may still be skipped without consuming bytes
	fault *fault
}

func (c *cursor) fail(reason, format string, args ...any) {
	if c.fault == nil {
		c.fault = &fault{reason, fmt.Sprintf(format, args...)}
	}
	c.i = len(c.b)
}

// take is the next n bytes.
func (c *cursor) take(n int64) []byte {
	if n < 0 || n > int64(len(c.b)-c.i) {
		if n < 0 {
			c.fail(ReasonMalformed, "a length is %d", n)
		} else {
			c.fail(ReasonTruncated, "%d bytes are missing", n-int64(len(c.b)-c.i))
		}
		return nil
	}
	v := c.b[c.i : c.i+int(n) : c.i+int(n)]
	c.i += int(n)
	return v
}

// long reads Avro's zigzag varint.
func (c *cursor) long() int64 {
	if c.i < len(c.b) && c.b[c.i] < 0x80 {
		u := c.b[c.i]
		c.i++
		return int64(u>>1) ^ -int64(u&1)
	}
	u, n := binary.Uvarint(c.b[c.i:])
	if n <= 0 {
		if n == 0 {
			c.fail(ReasonTruncated, "the body ends within a number")
		} else {
			c.fail(ReasonMalformed, "a number has more than 64 bits")
		}
		return 0
	}
	c.i += n
	return int64(u>>1) ^ -int64(u&1)
}

// int is a long that the specification limits to 32 bits.
func (c *cursor) int() int32 {
	v := c.long()
	if v != int64(int32(v)) {
		c.fail(ReasonMalformed, "%d is no 32-bit number", v)
		return 0
	}
	return int32(v)
}

func (c *cursor) bool() bool {
	b := c.take(1)
	if b == nil {
		return false
	}
	if b[0] > 1 {
		c.fail(ReasonMalformed, "a boolean is %d", b[0])
	}
	return b[0] == 1
}

func (c *cursor) bytes() []byte { return c.take(c.long()) }

func (c *cursor) float() float64 {
	b := c.take(4)
	if b == nil {
		return 0
	}
	return float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
}

func (c *cursor) double() float64 {
	b := c.take(8)
	if b == nil {
		return 0
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(b))
}

// branch reads a union's branch number.
func (c *cursor) branch(n int) int {
	v := c.long()
	if v < 0 || v >= int64(n) {
		c.fail(ReasonMalformed, "branch %d of a union of %d", v, n)
		return -1
	}
	return int(v)
}
