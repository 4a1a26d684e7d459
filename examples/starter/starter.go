// Package starter is the project that `lockstep init` makes: the meters of a
// few buildings. Its files are the whole of it.
package starter

import "embed"

// Name is the project's name in project.yaml; init puts the folder's in its place.
const Name = "meters"

// FS holds the project's files, project.yaml at its root.
//
//go:embed project.yaml sources.yaml README.md schemas sources models tests seeds raw dashboards
var FS embed.FS
