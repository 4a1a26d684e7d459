package main

import "lockstep/modeltest"

// unitsOf puts the forms in which a unit test ran together: it passed if it
// did in all of them.
func unitsOf(results []modeltest.UnitResult) []unitJSON {
	var units []unitJSON
	for i, r := range results {
		if i == 0 || results[i-1].Test != r.Test {
			t := r.Test
			units = append(units, unitJSON{Name: t.Name, Model: t.Model, File: t.File, Line: t.Line, Passed: true})
		}
		u := &units[len(units)-1]
		u.Ways = append(u.Ways, r.Form)
		if r.Passed() {
			continue
		}
		u.Passed = false
		u.Lines = append(u.Lines, "as "+r.Form+":")
		if r.Err != nil {
			u.Lines = append(u.Lines, r.Err.Error())
		}
		u.Lines = append(u.Lines, r.Lines...)
	}
	return units
}
