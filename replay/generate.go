package replay

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"lockstep/project"
)

// unitsPerChunk bounds what a generator makes in one go.
const unitsPerChunk = 100_000

// generator is one file of generate/. A file whose name starts with _ is a
// script; any other, <name>.sql, is a SELECT that gives raw.<name> its rows.
// Files run in order of name, scripts first. A file that reads the variable
// first_unit runs once for each chunk [first_unit, last_unit) of [0, units),
// where a script has set units; the others run once, before.
type generator struct {
	file    string
	sql     string
	table   *project.RawFile // nil for a script
	chunked bool
}

// generate makes the raw tables from the project's generator, chunk by chunk.
func (p *preparer) generate(ctx context.Context) error {
	all, err := p.generators()
	if err != nil {
		return err
	}
	variables := fmt.Sprintf("SET VARIABLE scale = %g::DOUBLE; SET VARIABLE seed = %d::BIGINT; SET VARIABLE units = 0::BIGINT", p.Scale, p.Seed)
	if err := p.exec(ctx, variables, "set the generator's variables"); err != nil {
		return err
	}
	for _, f := range p.Project.RawFiles {
		if err := p.createRaw(ctx, f); err != nil {
			return err
		}
	}
	if err := p.run(ctx, all, false); err != nil {
		return err
	}
	return p.chunks(ctx, all)
}

// generators are the files of generate/, scripts first.
func (p *preparer) generators() ([]generator, error) {
	files, err := fs.Glob(p.Project.FS, "generate/*.sql")
	if err != nil {
		return nil, fmt.Errorf("cannot list generate/*.sql: %w", err)
	}
	tables := map[string]*project.RawFile{}
	for _, f := range p.Project.RawFiles {
		tables[f.Name] = f
	}
	var scripts, queries []generator
	for _, f := range files {
		sql, err := fs.ReadFile(p.Project.FS, f)
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", f, err)
		}
		name := strings.TrimSuffix(path.Base(f), ".sql")
		g := generator{file: f, sql: string(sql), table: tables[name], chunked: strings.Contains(string(sql), "first_unit")}
		if strings.HasPrefix(name, "_") {
			scripts = append(scripts, g)
			continue
		}
		if g.table == nil {
			return nil, fmt.Errorf("cannot generate raw files: %s makes no raw file of sources.yaml; name it as one, or with a leading _", f)
		}
		delete(tables, name)
		queries = append(queries, g)
	}
	for _, f := range p.Project.RawFiles {
		if tables[f.Name] != nil {
			return nil, fmt.Errorf("cannot generate raw files: generate/%s.sql is missing; write it, or use --data DIR", f.Name)
		}
	}
	return append(scripts, queries...), nil
}

func (p *preparer) createRaw(ctx context.Context, f *project.RawFile) error {
	var columns []string
	for _, c := range rawColumns(f) {
		columns = append(columns, quoted(c.Name)+" "+c.Type.DuckDB())
	}
	create := fmt.Sprintf("CREATE TABLE raw.%s (%s)", quoted(f.Name), strings.Join(columns, ", "))
	return p.exec(ctx, create, "create raw."+f.Name)
}

func (p *preparer) run(ctx context.Context, all []generator, chunked bool) error {
	for _, g := range all {
		if g.chunked != chunked {
			continue
		}
		sql := g.sql
		if g.table != nil {
			var names []string
			for _, c := range rawColumns(g.table) {
				names = append(names, quoted(c.Name))
			}
			list := strings.Join(names, ", ")
			sql = fmt.Sprintf("INSERT INTO raw.%s (%s) SELECT %s FROM (%s\n)", quoted(g.table.Name), list, list, trimSQL([]byte(sql)))
		}
		if err := p.exec(ctx, sql, "run "+g.file); err != nil {
			return err
		}
	}
	return nil
}

func (p *preparer) chunks(ctx context.Context, all []generator) error {
	var units int64
	row := p.conn.QueryRowContext(ctx, "SELECT CAST(getvariable('units') AS BIGINT)")
	if err := row.Scan(&units); err != nil {
		return fmt.Errorf("cannot read the generator's variable units: %w", err)
	}
	for first := int64(0); first < units; first += unitsPerChunk {
		last := min(first+unitsPerChunk, units)
		p.Progress(Progress{Phase: Checking, Detail: fmt.Sprintf("generating %d of %d", last, units)})
		bounds := fmt.Sprintf("SET VARIABLE first_unit = %d::BIGINT; SET VARIABLE last_unit = %d::BIGINT", first, last)
		if err := p.exec(ctx, bounds, "set the generator's chunk"); err != nil {
			return err
		}
		if err := p.run(ctx, all, true); err != nil {
			return err
		}
	}
	return nil
}
