// Package buildtag makes a build without the tag that DuckDB's Arrow interface
// needs fail with a sentence. Whoever uses that interface imports it.
package buildtag
