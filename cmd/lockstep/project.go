package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"lockstep/compile"
	"lockstep/examples/olist"
	"lockstep/project"
)

// loadProject reads the project that the command line names.
func (a *app) loadProject() (*project.Project, error) {
	files, err := a.projectFiles()
	if err != nil {
		return nil, err
	}
	p, err := project.Load(files)
	if err != nil {
		return nil, a.projectError(err)
	}
	return p, a.checkEnvironment(p)
}

func (a *app) projectFiles() (fs.FS, error) {
	if a.project == "" {
		return olist.FS, nil
	}
	info, err := os.Stat(a.project)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("cannot read project %s: there is no such folder; `lockstep init %s` makes one", a.project, a.project)
	case err != nil:
		return nil, fmt.Errorf("cannot read project %s: %w", a.project, err)
	case !info.IsDir():
		return nil, fmt.Errorf("cannot read project %s: it is not a folder; give the folder that holds project.yaml", a.project)
	}
	return os.DirFS(a.project), nil
}

// program reads and compiles the project.
func (a *app) program() (*compile.Program, error) {
	p, err := a.loadProject()
	if err != nil {
		return nil, err
	}
	program, err := compile.Compile(p)
	if err != nil {
		return nil, a.projectError(err)
	}
	return program, nil
}

// projectError says in which project faults are.
func (a *app) projectError(err error) error {
	var faults project.Problems
	if !errors.As(err, &faults) {
		return err
	}
	return fmt.Errorf("the project %s has faults:\n%w", a.projectName(), faults)
}

func (a *app) projectName() string {
	if a.project == "" {
		return "that is bundled"
	}
	return a.project
}

func (a *app) checkEnvironment(p *project.Project) error {
	if _, ok := p.Environments[a.env]; !ok {
		names := slices.Sorted(maps.Keys(p.Environments))
		return fmt.Errorf("cannot use --env %s: project.yaml has no such environment; it has %s", a.env, strings.Join(names, ", "))
	}
	return nil
}
