package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"lockstep/compile"
	"lockstep/engine/duckdb"
	"lockstep/modeltest"
	"lockstep/project"
)

// stepsPerHistory is how many steps a random history takes.
const stepsPerHistory = 8

type testFlags struct {
	histories int
	seed      uint64
	models    []string
}

func (a *app) testCommand() *cobra.Command {
	var f testFlags
	c := &cobra.Command{
		Use:   "test",
		Short: "Run the unit tests, and random histories: the stream against a full recompute",
		Long: "Test runs the project's unit tests, each as a batch and as a stream, and then random histories: generated\n" +
			"rows (few keys, nulls, ties, repeats, late and changed values) in random steps, with restarts. After every\n" +
			"step the stream must be what a full recompute gives; if not, the smallest history found is shown.",
		Example: "  lockstep test\n  lockstep test --histories 1000 --select gold.sales\n  lockstep test --seed 42 --histories 1",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if f.histories < 0 {
				return usagef("--histories %d is below 0", f.histories)
			}
			if !c.Flags().Changed("seed") {
				f.seed = rand.Uint64N(1 << 32)
			}
			return a.test(c.Context(), f)
		},
	}
	c.Flags().IntVar(&f.histories, "histories", 20, "how many random histories; 0: unit tests only")
	c.Flags().Uint64Var(&f.seed, "seed", 0, "seed of the first history (default: a new one, which is printed)")
	c.Flags().StringSliceVar(&f.models, "select", nil, "only these models and what they read")
	return c
}

type testReport struct {
	Passed    int         `json:"passed"`
	Failed    int         `json:"failed"`
	Units     []unitJSON  `json:"unit_tests"`
	Histories int         `json:"histories"`
	Seed      uint64      `json:"seed"`
	Failure   *fuzzReport `json:"failure,omitempty"`
}

type unitJSON struct {
	Name   string   `json:"name"`
	Model  string   `json:"model"`
	File   string   `json:"file"`
	Line   int      `json:"line"`
	Passed bool     `json:"passed"`
	Ways   []string `json:"ways"` // in which the test ran
	Lines  []string `json:"differences,omitempty"`
}

type fuzzReport struct {
	Seed  uint64   `json:"seed"`
	Step  int      `json:"step"`
	Model string   `json:"model"`
	Lines []string `json:"differences"`
	Trace []string `json:"events"`
	Error string   `json:"error,omitempty"`
}

func (a *app) test(ctx context.Context, f testFlags) error {
	program, err := a.selected(f.models)
	if err != nil {
		return err
	}
	begin := time.Now()
	r := testReport{Units: []unitJSON{}, Histories: f.histories, Seed: f.seed}
	if err := a.unitTests(ctx, program, &r); err != nil {
		return err
	}
	if err := a.histories(ctx, program, f, &r); err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(r)
	} else {
		_, err = fmt.Fprintf(a.stdout, "%d passed, %d failed (%s)\n", r.Passed, r.Failed, duration(time.Since(begin)))
	}
	if err == nil && r.Failed > 0 {
		err = fmt.Errorf("%d of %d tests failed; the differences above say where", r.Failed, r.Passed+r.Failed)
	}
	return err
}

// selected compiles the project; with models, only those and what they read.
func (a *app) selected(models []string) (*compile.Program, error) {
	program, err := a.program()
	if err != nil || len(models) == 0 {
		return program, err
	}
	for _, name := range models {
		if program.Model(name) == nil {
			return nil, noModel(program, name)
		}
	}
	part := *program.Project
	part.Models = nil
	for _, m := range duckdb.Needed(program, models) {
		part.Models = append(part.Models, m.Model)
	}
	part.Tests = slices.DeleteFunc(slices.Clone(part.Tests), func(t *project.UnitTest) bool { return !slices.Contains(models, t.Model) })
	return compile.Compile(&part)
}

// unitTests runs the unit tests, those of a model together, and prints a line
// for each as it ends.
func (a *app) unitTests(ctx context.Context, p *compile.Program, r *testReport) error {
	for tests := p.Project.Tests; len(tests) > 0; {
		n := 1
		for n < len(tests) && tests[n].Model == tests[0].Model {
			n++
		}
		results, err := modeltest.RunUnit(ctx, duckdb.Engine{}, p, tests[:n])
		if err != nil {
			return fmt.Errorf("cannot run the unit tests: %w", err)
		}
		a.printUnits(unitsOf(results), r)
		tests = tests[n:]
	}
	return nil
}

func (a *app) printUnits(units []unitJSON, r *testReport) {
	for _, unit := range units {
		r.Units = append(r.Units, unit)
		verdict := "ok  "
		if unit.Passed {
			r.Passed++
		} else {
			r.Failed++
			verdict = "FAIL"
		}
		if a.json {
			continue
		}
		fmt.Fprintf(a.stdout, "%s %s: %s\n", verdict, unit.Model, unit.Name)
		for _, l := range unit.Lines {
			fmt.Fprintf(a.stdout, "     %s\n", l)
		}
	}
}

// histories runs random histories over all models at once.
func (a *app) histories(ctx context.Context, p *compile.Program, f testFlags, r *testReport) error {
	if f.histories == 0 {
		return nil
	}
	last := time.Now()
	progress := func(done int) {
		if time.Since(last) >= plainEvery {
			last = time.Now()
			a.say("%d of %d histories\n", done, f.histories)
		}
	}
	runner := modeltest.Runner{Engine: duckdb.Engine{}, Program: p}
	failure, err := runner.Fuzz(ctx, f.seed, f.histories, stepsPerHistory, progress)
	if err != nil {
		return fmt.Errorf("cannot run the random histories (seed %d): %w", f.seed, err)
	}
	if failure != nil {
		r.Failed++
		r.Failure = &fuzzReport{Seed: failure.Seed, Step: failure.Step, Model: failure.Model, Lines: failure.Lines, Trace: failure.Trace}
		if failure.Err != nil {
			r.Failure.Error = failure.Err.Error()
		}
		if !a.json {
			fmt.Fprintf(a.stdout, "FAIL random histories\n%v\nagain: lockstep test --histories 1 --seed %d\n", failure, failure.Seed)
		}
		return nil
	}
	r.Passed++
	if !a.json {
		fmt.Fprintf(a.stdout, "ok   %d random histories of %d steps over %d models, seeds from %d\n", f.histories, stepsPerHistory, len(p.Models), f.seed)
	}
	return nil
}
