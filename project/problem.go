package project

import (
	"fmt"
	"sort"
	"strings"
)

// Problem is a fault in a project's files: where, what, and what to do.
type Problem struct {
	File string
	Line int // 1-based; 0: the whole file
	What string
	Do   string // the remedy; may be empty
}

func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	fmt.Fprintf(&b, ": %s", p.What)
	if p.Do != "" {
		fmt.Fprintf(&b, "; %s", p.Do)
	}
	return b.String()
}

// Problems is every fault that was found, in order of file and line. It is an
// error when it is not empty; see Err.
type Problems []Problem

// Add notes a fault.
func (ps *Problems) Add(file string, line int, do, format string, args ...any) {
	*ps = append(*ps, Problem{File: file, Line: line, What: fmt.Sprintf(format, args...), Do: do})
}

// Err is nil when there is no fault.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	sort.SliceStable(ps, func(i, j int) bool {
		if ps[i].File != ps[j].File {
			return ps[i].File < ps[j].File
		}
		return ps[i].Line < ps[j].Line
	})
	return ps
}

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}
