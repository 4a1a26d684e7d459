package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"lockstep/web"
)

func (a *app) dlqCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "dlq",
		Short: "List, show and replay dead letters: records that could not be taken",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.dlqList(), a.dlqShow(), a.dlqReplay())
	return c
}

func filterFlags(c *cobra.Command, f *web.LetterFilter) {
	c.Flags().StringVar(&f.Topic, "topic", "", "only of this topic")
	c.Flags().StringVar(&f.Reason, "reason", "", "only with this reason")
}

func (a *app) dlqList() *cobra.Command {
	var f web.LetterFilter
	c := &cobra.Command{
		Use:   "list",
		Short: "List dead letters",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return a.listLetters(c.Context(), f) },
	}
	filterFlags(c, &f)
	c.Flags().BoolVar(&f.Done, "done", false, "also those that were replayed")
	c.Flags().IntVar(&f.Limit, "limit", 100, "at most this many; 0: all")
	return c
}

func (a *app) listLetters(ctx context.Context, f web.LetterFilter) error {
	return a.withBackend(ctx, func(b web.Backend, _ bool) error {
		letters, err := b.DeadLetters(ctx, f)
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(append([]web.Letter{}, letters...))
		}
		if len(letters) == 0 {
			fmt.Fprintln(a.stdout, "no dead letters")
			return nil
		}
		var rows [][]string
		for _, l := range letters {
			rows = append(rows, []string{letterName(l), when(l.Time), l.Reason, yes(l.Done), clip(l.Detail, 100)})
		}
		return writeTable(a.stdout, []string{"letter", "time", "reason", "done", "detail"}, make([]bool, 5), rows)
	})
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// letterName says where a record stood: topic/partition/offset.
func letterName(l web.Letter) string { return fmt.Sprintf("%s/%d/%d", l.Topic, l.Partition, l.Offset) }

// parseLetter reads such a name into a filter.
func parseLetter(name string) (web.LetterFilter, error) {
	f := web.LetterFilter{Done: true}
	parts := strings.Split(name, "/")
	if len(parts) == 3 {
		partition, err1 := strconv.ParseInt(parts[1], 10, 32)
		offset, err2 := strconv.ParseInt(parts[2], 10, 64)
		if err1 == nil && err2 == nil && parts[0] != "" {
			p := int32(partition)
			f.Topic, f.Partition, f.Offset = parts[0], &p, &offset
			return f, nil
		}
	}
	return f, usagef("%q is not a dead letter; write TOPIC/PARTITION/OFFSET as `lockstep dlq list` does", name)
}

func (a *app) dlqShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show TOPIC/PARTITION/OFFSET",
		Short: "Show a dead letter with its bytes",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			f, err := parseLetter(args[0])
			if err != nil {
				return err
			}
			return a.showLetter(c.Context(), args[0], f)
		},
	}
}

func (a *app) showLetter(ctx context.Context, name string, f web.LetterFilter) error {
	return a.withBackend(ctx, func(b web.Backend, _ bool) error {
		letters, err := b.DeadLetters(ctx, f)
		if err != nil {
			return err
		}
		if len(letters) == 0 {
			return fmt.Errorf("cannot show dead letter %s: there is none; `lockstep dlq list --done` lists them", name)
		}
		if a.json {
			return a.printJSON(letters[0])
		}
		l := letters[0]
		fmt.Fprintf(a.stdout, "letter  %s\ntime    %s\nreason  %s\ndetail  %s\nschema  %d\ndone    %s\nkey     %s\nvalue   %d bytes\n%s",
			letterName(l), when(l.Time), l.Reason, l.Detail, l.SchemaID, yes(l.Done), printable(l.Key), len(l.Value), hex.Dump(l.Value))
		return nil
	})
}

func printable(b []byte) string {
	if utf8.Valid(b) {
		return strconv.Quote(string(b))
	}
	return hex.EncodeToString(b)
}

func (a *app) dlqReplay() *cobra.Command {
	var f web.LetterFilter
	var all bool
	c := &cobra.Command{
		Use:   "replay [TOPIC/PARTITION/OFFSET]",
		Short: "Send dead letters to their topic again, after the cause was fixed",
		Long: "Replay sends dead letters to their topic again, where they are judged like any other record, and marks\n" +
			"them as done. Name one, choose by --topic and --reason, or say --all.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			chosen := f
			if len(args) == 1 {
				one, err := parseLetter(args[0])
				if err != nil {
					return err
				}
				one.Done = false
				chosen = one
			}
			if !all && chosen.Topic == "" && chosen.Reason == "" {
				return usagef("dlq replay needs a letter, --topic, --reason or --all")
			}
			return a.replayLetters(c.Context(), chosen)
		},
	}
	filterFlags(c, &f)
	c.Flags().BoolVar(&all, "all", false, "all that were not replayed yet")
	return c
}

func (a *app) replayLetters(ctx context.Context, f web.LetterFilter) error {
	return a.withBackend(ctx, func(b web.Backend, running bool) error {
		n, err := b.ReplayLetters(ctx, f)
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(map[string]int{"replayed": n})
		}
		fmt.Fprintf(a.stdout, "%d dead letters were sent again\n", n)
		if !running && n > 0 {
			fmt.Fprintln(a.stdout, "no instance runs: the next `lockstep run` takes them")
		}
		return nil
	})
}
