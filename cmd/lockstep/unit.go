package main

import (
	"slices"
	"strings"

	"lockstep/modeltest"
)

// unitsOf puts the forms in which a unit test ran together: it passed if it
// did in all of them.
func unitsOf(results []modeltest.UnitResult) []unitJSON {
	var units []unitJSON
	for len(results) > 0 {
		n := 1
		for n < len(results) && results[n].Test == results[0].Test {
			n++
		}
		units = append(units, unitOf(results[:n]))
		results = results[n:]
	}
	return units
}

// unitOf tells of one test. Forms that differ from what is expected in the
// same way are told once.
func unitOf(forms []modeltest.UnitResult) unitJSON {
	t := forms[0].Test
	u := unitJSON{Name: t.Name, Model: t.Model, File: t.File, Line: t.Line, Passed: true}
	told := make([]bool, len(forms))
	for i, r := range forms {
		u.Ways = append(u.Ways, r.Form)
		if r.Passed() || told[i] {
			continue
		}
		u.Passed = false
		lines, same := faultsOf(r), []string{}
		for j := i; j < len(forms); j++ {
			if !forms[j].Passed() && slices.Equal(faultsOf(forms[j]), lines) {
				told[j] = true
				same = append(same, forms[j].Form)
			}
		}
		u.Lines = append(u.Lines, "as "+strings.Join(same, "; as ")+":")
		u.Lines = append(u.Lines, lines...)
	}
	return u
}

func faultsOf(r modeltest.UnitResult) []string {
	if r.Err != nil {
		return append([]string{r.Err.Error()}, r.Lines...)
	}
	return r.Lines
}
