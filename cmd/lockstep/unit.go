package main

import "lockstep/modeltest"

// unitOf is a unit test's result for the report.
func unitOf(u modeltest.UnitResult) unitJSON {
	return unitJSON{Name: u.Test.Name, Model: u.Test.Model, File: u.Test.File, Line: u.Test.Line, Passed: len(u.Lines) == 0, Lines: u.Lines}
}
