// Package apptest runs the real binary from outside, as users and scripts do:
// end to end, beside one another, stopped and killed. Its tests build the
// binary themselves unless LOCKSTEP_BIN names one.
package apptest
