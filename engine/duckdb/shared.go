package duckdb

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/duckdb/duckdb-go/v2"
)

// session opens a private database: one of its own, or one inside the
// engine's shared instance, which takes a tenth of the time.
func (e Engine) session(ctx context.Context) (*Session, error) {
	if e.Instance == nil {
		return OpenMemory(ctx, e.Options)
	}
	return openIn(ctx, e.Instance)
}

var attached atomic.Int64

// openIn opens a session whose tables are its own, in an instance that others
// use too.
func openIn(ctx context.Context, instance *duckdb.Connector) (*Session, error) {
	s, err := NewSession(ctx, instance)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("private_%d", attached.Add(1))
	if err := s.Exec(ctx, "ATTACH ':memory:' AS "+name); err != nil {
		s.Close()
		return nil, err
	}
	s.private = name
	if err := s.Exec(ctx, "USE "+name); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// detach drops the private database with all its tables.
func (s *Session) detach() error {
	if s.private == "" {
		return nil
	}
	ctx := context.Background()
	if err := s.Exec(ctx, "USE memory"); err != nil {
		return err
	}
	return s.Exec(ctx, "DETACH "+s.private)
}
