// Package olist is the bundled domain project, embedded so that `lockstep run`
// needs no folder. Its files are the whole of it; no other package may know
// what they say.
package olist

import "embed"

// FS holds the project's files, project.yaml at its root.
//
//go:embed project.yaml sources.yaml all:sources all:generate schemas models seeds tests dashboards
var FS embed.FS
