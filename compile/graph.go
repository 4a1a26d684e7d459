package compile

import (
	"fmt"
	"slices"
	"strings"

	"lockstep/project"
)

// Lineage is the graph of a project: topics, the bronze tables made of them,
// seeds and models. Its JSON is part of the command line's contract.
type Lineage struct {
	Project string        `json:"project"`
	Nodes   []LineageNode `json:"nodes"` // each behind what it reads
}

// LineageNode is one table, or a topic.
type LineageNode struct {
	Name         string   `json:"name"`
	Kind         string   `json:"kind"`                   // topic, bronze, seed, model
	Materialized string   `json:"materialized,omitempty"` // of a model
	Description  string   `json:"description,omitempty"`
	File         string   `json:"file"`
	Reads        []string `json:"reads"`
}

// Graph gives the lineage of a compiled project: sources, then bronze, then
// models in the order in which a step goes through them.
func Graph(p *Program) *Lineage {
	l := &Lineage{Project: p.Project.Name}
	for _, s := range p.Project.Sources {
		l.Nodes = append(l.Nodes,
			LineageNode{Name: "topic " + s.Topic, Kind: "topic", File: s.SchemaFile, Reads: []string{}},
			LineageNode{Name: s.Table(), Kind: "bronze", File: s.SchemaFile, Reads: []string{"topic " + s.Topic}})
	}
	for _, s := range p.Project.Seeds {
		l.Nodes = append(l.Nodes, LineageNode{Name: s.Name, Kind: "seed", File: s.File, Reads: []string{}})
	}
	for _, m := range p.Models {
		l.Nodes = append(l.Nodes, LineageNode{Name: m.Name, Kind: "model", Materialized: string(m.Materialized),
			Description: m.Description, File: m.File, Reads: append([]string{}, m.Reads...)})
	}
	return l
}

// Text lists each table with what it reads, one a line.
func (l *Lineage) Text() string {
	var b strings.Builder
	for _, n := range l.Nodes {
		if n.Kind == "topic" {
			continue
		}
		fmt.Fprintf(&b, "%s%s", n.Name, n.mark())
		if len(n.Reads) > 0 {
			fmt.Fprintf(&b, " <- %s", join(n.Reads))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (n *LineageNode) mark() string {
	switch {
	case n.Kind == "seed":
		return " (seed)"
	case n.Materialized != "" && n.Materialized != string(project.Incremental):
		return " (" + n.Materialized + ")"
	}
	return ""
}

// Mermaid draws the graph from topics to models. Views, which are evaluated
// when asked, have round corners; batch models a double frame.
func (l *Lineage) Mermaid() string {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	id := func(name string) string {
		return strings.NewReplacer(".", "_", " ", "_").Replace(name)
	}
	for _, n := range l.Nodes {
		open, shut := "[", "]"
		switch {
		case n.Kind == "topic":
			open, shut = "([", "])"
		case n.Kind == "seed":
			open, shut = "[/", "/]"
		case n.Materialized == string(project.View):
			open, shut = "(", ")"
		case n.Materialized == string(project.BatchOnly):
			open, shut = "[[", "]]"
		}
		fmt.Fprintf(&b, "  %s%s%q%s\n", id(n.Name), open, n.Name+n.mark(), shut)
	}
	for _, n := range l.Nodes {
		for _, r := range n.Reads {
			fmt.Fprintf(&b, "  %s --> %s\n", id(r), id(n.Name))
		}
	}
	return b.String()
}

// Readers lists the models that read a table, directly.
func (l *Lineage) Readers(table string) []string {
	var out []string
	for _, n := range l.Nodes {
		if slices.Contains(n.Reads, table) {
			out = append(out, n.Name)
		}
	}
	return out
}
