package batch

import "github.com/apache/arrow-go/v18/arrow/array"

// counter counts the rows that go through a stream.
type counter struct {
	array.RecordReader
	rows int64
}

func (c *counter) Next() bool {
	if !c.RecordReader.Next() {
		return false
	}
	c.rows += c.RecordReader.RecordBatch().NumRows()
	return true
}
