package render

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/template"
	"time"

	"lockstep/compile"
	"lockstep/project"
)

// AirflowOptions say how the DAG calls Lockstep.
type AirflowOptions struct {
	Environment string        // of the project: embedded or cluster
	Binary      string        // empty: lockstep, found on the worker's PATH
	State       string        // state folder, as the workers see it
	Project     string        // project folder, as the workers see it; empty: the bundled one
	Retries     int           // of a task
	RetryDelay  time.Duration // between its tries
	Timeout     time.Duration // of a try
	Parallel    int           // tasks at a time
}

//go:embed airflow.py.tmpl
var airflowText string

var airflowTemplate = template.Must(template.New("airflow").Funcs(template.FuncMap{"py": pythonString, "seconds": func(d time.Duration) string { return number(d.Seconds()) }}).Parse(airflowText))

// airflowModel is a task.
type airflowModel struct {
	Name, Description string
	Reads             []string // tasks that it waits for
}

// Airflow gives a DAG file for Airflow 3: begin, a task per model that has a
// table, publish.
func Airflow(p *compile.Program, o AirflowOptions) (Files, error) {
	s, err := parseSchedule(p.Project.Batch.Schedule)
	if err != nil {
		return nil, err
	}
	if o.Binary == "" {
		o.Binary = "lockstep"
	}
	var text strings.Builder
	err = airflowTemplate.Execute(&text, map[string]any{
		"Name": p.Project.Name, "Options": o, "Models": airflowModels(p),
		"Every": s.every, "Cron": s.cron, "Zone": s.timezone,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot render the DAG: %w", err)
	}
	return Files{"lockstep_" + p.Project.Name + ".py": text.String()}, nil
}

// airflowModels lists the models that have tables, in graph order. A view is
// no task: what reads it waits for what the view reads.
func airflowModels(p *compile.Program) (out []airflowModel) {
	behind := map[string][]string{} // tasks behind a table's name
	for _, m := range p.Models {
		var reads []string
		for _, table := range m.Reads {
			for _, task := range behind[table] {
				if !slices.Contains(reads, task) {
					reads = append(reads, task)
				}
			}
		}
		slices.Sort(reads)
		if m.Materialized == project.View {
			behind[m.Name] = reads
			continue
		}
		behind[m.Name] = []string{m.Name}
		out = append(out, airflowModel{Name: m.Name, Description: m.Description, Reads: reads})
	}
	return out
}

// pythonString writes a Python literal. JSON's strings are Python's.
func pythonString(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return `""`
	}
	return strings.TrimSuffix(b.String(), "\n")
}
