//go:build !duckdb_arrow

package buildtag

var _ = Lockstep_needs_a_build_tag__run_make_build__or_add_the_flag_tags_duckdb_arrow_to_go_build
