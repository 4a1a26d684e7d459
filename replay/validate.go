package replay

import (
	"context"
	"errors"
	"fmt"
	"os"

	"lockstep/project"
)

// CheckQueries runs the queries of a project's sources over empty raw tables.
// It finds what is wrong with their SQL, columns and types without any data;
// the error joins all that it found.
func CheckQueries(ctx context.Context, p *project.Project) error {
	c := Config{Project: p}.withDefaults()
	if len(c.sources()) == 0 {
		return nil
	}
	dir, err := os.MkdirTemp("", "lockstep-queries-")
	if err != nil {
		return fmt.Errorf("cannot check the queries of sources: %w", err)
	}
	defer os.RemoveAll(dir)
	prepare, err := newPreparer(ctx, c, dir)
	if err != nil {
		return err
	}
	defer prepare.close()
	for _, f := range p.RawFiles {
		if err := prepare.createRaw(ctx, f); err != nil {
			return err
		}
	}
	if err := prepare.scripts(ctx); err != nil {
		return err
	}
	var faults []error
	for _, s := range c.sources() {
		faults = append(faults, prepare.spool(ctx, s))
	}
	return errors.Join(faults...)
}
