package dashboard

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"lockstep/compile"
	"lockstep/project"
)

// Set is the dashboards of a project as its files are now: a changed file is
// seen when the set is asked the next time. It is safe for concurrent use.
type Set struct {
	fsys    fs.FS
	program *compile.Program

	mu       sync.Mutex
	seen     [sha256.Size]byte // of the files that were checked
	list     []*Dashboard
	problems project.Problems
}

// NewSet makes a set of the program's project folder. Nothing is read yet.
func NewSet(program *compile.Program) *Set {
	return &Set{fsys: program.Project.FS, program: program}
}

// Project is the name of the project.
func (s *Set) Project() string { return s.program.Project.Name }

// List gives the dashboards without a fault in order of the menu, and the
// faults of the others.
func (s *Set) List(ctx context.Context) ([]*Dashboard, project.Problems, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, err := s.fingerprint()
	if err != nil {
		return nil, nil, err
	}
	if now == s.seen {
		return s.list, s.problems, nil
	}
	list, err := Check(ctx, s.fsys, s.program)
	var problems project.Problems
	if err != nil && !errors.As(err, &problems) {
		return nil, nil, err
	}
	s.seen, s.list, s.problems = now, list, problems
	return list, problems, nil
}

func (s *Set) fingerprint() (sum [sha256.Size]byte, err error) {
	files, err := fs.Glob(s.fsys, "dashboards/*.yaml")
	if err != nil {
		return sum, fmt.Errorf("cannot list dashboards: %w", err)
	}
	hash := sha256.New()
	for _, file := range files {
		text, err := fs.ReadFile(s.fsys, file)
		if err != nil {
			return sum, fmt.Errorf("cannot read %s: %w", file, err)
		}
		fmt.Fprintf(hash, "%s %d\n", file, len(text))
		hash.Write(text)
	}
	return [sha256.Size]byte(hash.Sum(nil)), nil
}

// Outline reads the GeoJSON file that a panel of a dashboard names.
func (s *Set) Outline(p *Panel) ([]byte, error) {
	if p.Builtin.Outline == "" {
		return nil, fmt.Errorf("panel %s has no outline", p.Name)
	}
	text, err := fs.ReadFile(s.fsys, p.Builtin.Outline)
	if err != nil {
		return nil, fmt.Errorf("cannot read the outline of panel %s: %w", p.Name, err)
	}
	return text, nil
}
