package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"lockstep/compile"
	"lockstep/engine/spark"
	"lockstep/project"
)

// The Thrift Server's own catalog holds a view of every table, so that any
// client of it reads silver.x as it is served. It is in the server's memory:
// the views are gone when the server starts again.

// ownCatalog is the catalog that clients of the Thrift Server begin in.
const ownCatalog = "spark_catalog"

// viewsProperty marks the views that stand: a property of a database, gone
// with them.
const viewsProperty = "lockstep.served"

// served are the names for other programs. Each table is read as it is when it
// is asked, at the newest step: a query sees one step of each table, not
// always the same of all.
func (b *Backend) served(m *moment) names {
	n := b.pinned(m)
	if !m.live {
		return n
	}
	pinned := n.of
	n.of = func(ctx context.Context, table string) (string, error) {
		for _, s := range b.program.Project.Sources {
			if s.Table() == table {
				return b.bronze(ctx, s, "TRUE")
			}
		}
		model := b.program.Model(table)
		if model == nil || model.Relation == nil || m.speed == 0 {
			return pinned(ctx, table)
		}
		return servedSQL(model.Relation, model.Fingerprint, baseSQL(model, m), "lake."+speedTable, m.after(), newest), nil
	}
	return n
}

// generation names what views are made of: while it is the same, they need not
// be made anew.
func (b *Backend) generation(m *moment) string {
	return fmt.Sprintf("%s manifest %d live %t speed %t", b.program.Fingerprint, m.manifestID(), m.live, m.speed != 0)
}

// refreshViews makes the views of what is served now.
func (b *Backend) refreshViews(ctx context.Context) error {
	m, err := b.now(ctx)
	if err != nil {
		return err
	}
	s, err := b.server.Open(ctx, nil)
	if err != nil {
		return err
	}
	return errors.Join(b.makeViews(ctx, s, m), s.Close())
}

// makeViews makes the views and notes of what, where that goes when they go.
func (b *Backend) makeViews(ctx context.Context, s *spark.Session, m *moment) error {
	n := b.served(m)
	if err := n.create(ctx, s, ownCatalog, n.tables, nil); err != nil {
		return err
	}
	if err := s.Exec(ctx, "CREATE NAMESPACE IF NOT EXISTS "+ownCatalog+".lockstep"); err != nil {
		return err
	}
	return s.Exec(ctx, fmt.Sprintf("ALTER NAMESPACE %s.lockstep SET DBPROPERTIES (%s = %s)", ownCatalog, textSQL(viewsProperty), textSQL(b.generation(m))))
}

// keepViews makes the views anew where they are gone, or of something else
// than what is served. It says whether it did.
func (b *Backend) keepViews(ctx context.Context, s *spark.Session) (bool, error) {
	m, err := b.now(ctx)
	if err != nil {
		return false, err
	}
	text, err := describe(ctx, s, ownCatalog+".lockstep")
	if err != nil || strings.Contains(text, b.generation(m)) {
		return false, err
	}
	return true, b.makeViews(ctx, s, m)
}

// describe gives what Spark says of a namespace; empty: there is none.
func describe(ctx context.Context, s *spark.Session, namespace string) (string, error) {
	var out strings.Builder
	r, err := s.Query(ctx, "DESCRIBE NAMESPACE EXTENDED "+namespace)
	var answer *spark.SQLError
	if errors.As(err, &answer) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer r.Release()
	for r.Next() {
		rec := r.RecordBatch()
		for i := range int(rec.NumRows()) {
			for c := range int(rec.NumCols()) {
				out.WriteString(rec.Column(c).ValueStr(i))
				out.WriteByte(' ')
			}
		}
	}
	return out.String(), r.Err()
}

// stored says whether a model has a table.
func stored(m *compile.Model) bool { return m.Materialized != project.View }
