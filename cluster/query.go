package cluster

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"lockstep/engine/spark"
	"lockstep/serve"
	"lockstep/web"

	"github.com/apache/arrow-go/v18/arrow/array"
)

// Query implements web.Backend: one statement of Spark SQL in a session whose
// names all point to one moment.
func (b *Backend) Query(ctx context.Context, q web.Query) (*web.Result, error) {
	m, err := b.momentFor(ctx, q.Layer, q.AsOf)
	if err != nil {
		return nil, err
	}
	sql, err := readOnly(q.SQL)
	if err != nil {
		return nil, err
	}
	n := b.pinned(m)
	wanted := n.mentioned(sql)
	if showsNames.MatchString(sql) {
		wanted = n.tables
	}
	s, err := b.session(ctx, n, wanted, nil)
	if err != nil {
		return nil, err
	}
	rows, err := s.Query(ctx, sql)
	if err != nil {
		return nil, errors.Join(queryError(err), s.Close())
	}
	return &web.Result{Step: m.step, Manifest: m.manifestID(), Frozen: m.frozen, Rows: &result{rows, s}}, nil
}

// result ends the session with the rows.
type result struct {
	array.RecordReader
	session *spark.Session
}

// Release ends the query.
func (r *result) Release() {
	r.RecordReader.Release()
	r.session.Close()
}

// momentFor resolves layer and time.
func (b *Backend) momentFor(ctx context.Context, layer, at string) (*moment, error) {
	if layer != "" && layer != serve.Serving && layer != serve.Batch {
		return nil, fmt.Errorf("%w: there is no layer %q: use %s or %s", serve.ErrQuery, layer, serve.Serving, serve.Batch)
	}
	if at != "" {
		all, err := b.lake.Manifests(ctx)
		if err != nil {
			return nil, err
		}
		m, err := serve.ManifestAt(all, at)
		if err != nil {
			return nil, err
		}
		return frozenAt(m, "as of manifest "+strconv.FormatInt(m.ID, 10)), nil
	}
	m, err := b.now(ctx)
	if err != nil || layer != serve.Batch || !m.live {
		return m, err
	}
	if m.manifest == nil {
		return nil, fmt.Errorf("%w: the batch layer has not published yet: start it with `lockstep batch --env cluster`", serve.ErrQuery)
	}
	return frozenAt(*m.manifest, ""), nil
}

var (
	leading    = regexp.MustCompile(`^(?:\s+|--[^\n]*(?:\n|$)|/\*(?s:.*?)\*/)*`)
	firstWord  = regexp.MustCompile(`^\(*\s*([A-Za-z]+)`)
	showsNames = regexp.MustCompile(`(?i)^show\b`)
	position   = regexp.MustCompile(`\bline (\d+)`)
)

// readOnly refuses what is not one statement that reads. A query is made part
// of one: where a statement that writes begins with WITH or FROM, Spark refuses
// it there.
func readOnly(sql string) (string, error) {
	sql = strings.TrimRight(strings.TrimSpace(sql), "; \n\t")
	sql = sql[len(leading.FindString(sql)):]
	word := firstWord.FindStringSubmatch(sql)
	if word == nil {
		return "", fmt.Errorf("%w: it is no statement of SQL", serve.ErrQuery)
	}
	switch strings.ToUpper(word[1]) {
	case "SHOW", "DESCRIBE", "DESC", "EXPLAIN":
		return sql, nil
	case "SELECT", "WITH", "FROM", "VALUES", "TABLE":
		return "SELECT * FROM (\n" + sql + "\n)", nil
	}
	return "", fmt.Errorf("%w: only statements that read are allowed: SELECT, DESCRIBE, SHOW, EXPLAIN", serve.ErrQuery)
}

// queryError says that the statement is at fault, with the lines as its author
// counts them.
func queryError(err error) error {
	var answer *spark.SQLError
	if !errors.As(err, &answer) {
		return err
	}
	text := position.ReplaceAllStringFunc(answer.Message, func(m string) string {
		n, _ := strconv.Atoi(m[len("line "):])
		return "line " + strconv.Itoa(max(1, n-1))
	})
	return fmt.Errorf("%w: %s", serve.ErrQuery, text)
}
