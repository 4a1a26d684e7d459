package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"lockstep/compile"
)

func (a *app) graphCommand() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "graph",
		Short: "Show how topics, bronze tables and models hang together",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if a.json && c.Flags().Changed("format") && format != "json" {
				return usagef("--json and --format %s exclude each other", format)
			}
			if a.json {
				format = "json"
			}
			return a.graph(format)
		},
	}
	c.Flags().StringVar(&format, "format", "text", "text, json or mermaid")
	return c
}

func (a *app) graph(format string) error {
	program, err := a.program()
	if err != nil {
		return err
	}
	lineage := compile.Graph(program)
	switch format {
	case "text":
		_, err = fmt.Fprint(a.stdout, lineage.Text())
	case "mermaid":
		_, err = fmt.Fprint(a.stdout, lineage.Mermaid())
	case "json":
		err = a.printJSON(lineage)
	default:
		err = usagef("--format %q is none of text, json, mermaid", format)
	}
	return err
}

func (a *app) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain MODEL",
		Short: "Show for each input of a model how a change travels and what a step reads",
		Args:  cobra.ExactArgs(1),
		RunE:  func(_ *cobra.Command, args []string) error { return a.explain(args[0]) },
	}
}

func (a *app) explain(model string) error {
	program, err := a.program()
	if err != nil {
		return err
	}
	e := compile.Explain(program, model)
	if e == nil {
		return noModel(program, model)
	}
	if a.json {
		return a.printJSON(e)
	}
	_, err = fmt.Fprint(a.stdout, e.Text())
	return err
}

func noModel(p *compile.Program, model string) error {
	var names []string
	for _, m := range p.Models {
		names = append(names, m.Name)
	}
	return fmt.Errorf("there is no model %q in the project; it has %s", model, strings.Join(names, ", "))
}
