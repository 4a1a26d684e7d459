// Package browser opens the dashboards of the real binary in a real browser:
// what a reader sees is compared with what a query gives. Its tests need
// Debian's chromium (or CHROMIUM, a path); axe-core they take from
// web/dash/node_modules. LOCKSTEP_BIN names a binary that is built already,
// LOCKSTEP_PICTURES a folder for the pictures that they take.
package browser
