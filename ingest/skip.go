package ingest

import (
	"fmt"

	"github.com/twmb/avro"
)

// maxDepth limits nested values, and idleWork the values of no bytes (nulls
// in an array) that one record may hold: a few hostile bytes must not keep the
// judge busy.
const (
	maxDepth = 256
	idleWork = 4096
)

// skipper passes over a value.
type skipper func(c *cursor, depth int)

// names knows the named types of a schema, for references to them.
type names struct {
	types    map[string]*avro.SchemaNode
	skippers map[string]*skipper // by full name, for types that hold themselves
}

func newNames(root *avro.SchemaNode) *names {
	n := &names{types: map[string]*avro.SchemaNode{}, skippers: map[string]*skipper{}}
	n.collect(root)
	return n
}

func (n *names) collect(node *avro.SchemaNode) {
	if node == nil {
		return
	}
	if node.Name != "" {
		n.types[fullName(node)] = node
	}
	for i := range node.Fields {
		n.collect(&node.Fields[i].Type)
	}
	for i := range node.Branches {
		n.collect(&node.Branches[i])
	}
	n.collect(node.Items)
	n.collect(node.Values)
}

func fullName(node *avro.SchemaNode) string {
	if node.Namespace == "" {
		return node.Name
	}
	return node.Namespace + "." + node.Name
}

// resolve is the definition that a node names, or the node.
func (n *names) resolve(node *avro.SchemaNode) (*avro.SchemaNode, error) {
	switch node.Type {
	case "null", "boolean", "int", "long", "float", "double", "string", "bytes", "record", "error", "enum", "array", "map", "fixed", "union":
		return node, nil
	}
	if d := n.types[node.Type]; d != nil {
		return d, nil
	}
	s, err := node.Schema()
	if err != nil {
		return nil, fmt.Errorf("type %s is not defined: %w", node.Type, err)
	}
	d := s.Root()
	n.collect(d)
	n.types[node.Type] = d
	return d, nil
}

// skip compiles how a value of a type is passed over.
func (n *names) skip(node *avro.SchemaNode) (skipper, error) {
	node, err := n.resolve(node)
	if err != nil {
		return nil, err
	}
	switch node.Type {
	case "null":
		return func(c *cursor, _ int) {}, nil
	case "boolean":
		return func(c *cursor, _ int) { c.bool() }, nil
	case "int", "long", "enum":
		return func(c *cursor, _ int) { c.long() }, nil
	case "float":
		return func(c *cursor, _ int) { c.take(4) }, nil
	case "double":
		return func(c *cursor, _ int) { c.take(8) }, nil
	case "string", "bytes":
		return func(c *cursor, _ int) { c.bytes() }, nil
	case "fixed":
		size := int64(node.Size)
		return func(c *cursor, _ int) { c.take(size) }, nil
	case "union":
		return n.skipUnion(node)
	case "array":
		item, err := n.skip(node.Items)
		return skipBlocks(item), err
	case "map":
		value, err := n.skip(node.Values)
		return skipBlocks(func(c *cursor, depth int) { c.bytes(); value(c, depth) }), err
	default:
		return n.skipRecord(node)
	}
}

func (n *names) skipUnion(node *avro.SchemaNode) (skipper, error) {
	branches := make([]skipper, len(node.Branches))
	for i := range node.Branches {
		var err error
		if branches[i], err = n.skip(&node.Branches[i]); err != nil {
			return nil, err
		}
	}
	return func(c *cursor, depth int) {
		if b := c.branch(len(branches)); b >= 0 {
			branches[b](c, depth)
		}
	}, nil
}

func (n *names) skipRecord(node *avro.SchemaNode) (skipper, error) {
	if s := n.skippers[fullName(node)]; s != nil {
		return func(c *cursor, depth int) { (*s)(c, depth) }, nil
	}
	var self skipper
	n.skippers[fullName(node)] = &self
	fields := make([]skipper, len(node.Fields))
	for i := range node.Fields {
		var err error
		if fields[i], err = n.skip(&node.Fields[i].Type); err != nil {
			return nil, err
		}
	}
	self = func(c *cursor, depth int) {
		if depth > maxDepth {
			c.fail(ReasonMalformed, "values are nested more than %d deep", maxDepth)
		}
		at := c.i
		for _, f := range fields {
			if c.fault != nil {
				return
			}
			f(c, depth+1)
		}
		c.idle(at)
	}
	return self, nil
}

// skipBlocks passes over the blocks of an array or map.
func skipBlocks(item skipper) skipper {
	return func(c *cursor, depth int) {
		if depth > maxDepth {
			c.fail(ReasonMalformed, "values are nested more than %d deep", maxDepth)
		}
		for c.fault == nil {
			count := c.long()
			if count == 0 {
				return
			}
			end := -1
			if count < 0 { // the block says how many bytes it has
				size := c.long()
				if count, end = -count, c.i+int(size); count < 0 || size < 0 || size > int64(len(c.b)-c.i) {
					c.fail(ReasonMalformed, "a block of %d bytes where %d are left", size, len(c.b)-c.i)
				}
			}
			for ; count > 0 && c.fault == nil; count-- {
				at := c.i
				item(c, depth+1)
				c.idle(at)
			}
			if end >= 0 && c.fault == nil && c.i != end {
				c.fail(ReasonMalformed, "a block ends %d bytes from where it says", c.i-end)
			}
		}
	}
}

// idle counts a value that took no byte.
func (c *cursor) idle(at int) {
	if c.i != at || c.fault != nil {
		return
	}
	if c.work--; c.work < 0 {
		c.fail(ReasonMalformed, "more than %d values without a byte", idleWork)
	}
}
