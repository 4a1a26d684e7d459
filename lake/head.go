package lake

import (
	"context"
	"fmt"
	"maps"

	"lockstep/project"

	"github.com/apache/iceberg-go/table"
)

// Head is the state of a table, in one read of the catalog.
type Head struct {
	Snapshot   int64             // the current one; 0: the table has none yet
	Columns    []project.Column  // as of now
	Properties map[string]string // of the table

	meta table.Metadata
}

// Head reads the state of a table; ErrNoTable: there is none.
func (l *Lake) Head(ctx context.Context, name string) (*Head, error) {
	ident, err := identifier(name)
	if err != nil {
		return nil, err
	}
	tbl, err := l.cat.LoadTable(ctx, ident)
	if err != nil {
		return nil, err
	}
	h := &Head{Properties: maps.Clone(tbl.Properties()), meta: tbl.Metadata()}
	if id := snapshotID(tbl); id != nil {
		h.Snapshot = *id
	}
	if h.Columns, err = columnsOf(tbl.Schema()); err != nil {
		return nil, fmt.Errorf("cannot read table %s: %w", name, err)
	}
	return h, nil
}

// Property is a property of the newest snapshot that has it, from the current
// one back, and that snapshot's id; 0: none has it.
func (h *Head) Property(key string) (value string, snapshot int64) {
	if s := newestWith(h.meta, key); s != nil {
		return s.Summary.Properties[key], s.SnapshotID
	}
	return "", 0
}

// newestWith is the newest snapshot whose summary has a property, from the
// current one back; nil: none.
func newestWith(meta table.Metadata, key string) *table.Snapshot {
	for s := meta.CurrentSnapshot(); s != nil; {
		if s.Summary != nil {
			if _, ok := s.Summary.Properties[key]; ok {
				return s
			}
		}
		if s.ParentSnapshotID == nil {
			return nil
		}
		s = meta.SnapshotByID(*s.ParentSnapshotID)
	}
	return nil
}

// Property is Head and its Property.
func (l *Lake) Property(ctx context.Context, name, key string) (value string, snapshot int64, err error) {
	h, err := l.Head(ctx, name)
	if err != nil {
		return "", 0, err
	}
	value, snapshot = h.Property(key)
	return value, snapshot, nil
}

// Position is that of a bronze table as it stands, with its current snapshot
// (0: none).
func (l *Lake) Position(ctx context.Context, name string) (Position, int64, error) {
	ident, err := identifier(name)
	if err != nil {
		return Position{}, 0, err
	}
	tbl, err := l.cat.LoadTable(ctx, ident)
	if err != nil {
		return Position{}, 0, err
	}
	p, err := positionOf(tbl)
	if err != nil {
		return Position{}, 0, fmt.Errorf("cannot read the position of table %s: %w", name, err)
	}
	if id := snapshotID(tbl); id != nil {
		return p, *id, nil
	}
	return p, 0, nil
}
