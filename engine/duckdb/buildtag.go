package duckdb

import _ "lockstep/internal/buildtag" // DuckDB's Arrow interface needs a build tag
