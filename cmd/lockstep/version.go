package main

import (
	"database/sql"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"lockstep/embedded"
)

// version of the binary; `make build` sets it from the git tag.
var version = "development"

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the versions of the binary, of the state format and of DuckDB",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return a.version() },
	}
}

type versions struct {
	Lockstep    string `json:"lockstep"`
	StateFormat int    `json:"state_format"`
	DuckDB      string `json:"duckdb"`
	Go          string `json:"go"`
}

func (a *app) version() error {
	duck, err := duckVersion()
	if err != nil {
		return err
	}
	v := versions{version, embedded.StateFormat, duck, runtime.Version()}
	if a.json {
		return a.printJSON(v)
	}
	_, err = fmt.Fprintf(a.stdout, "lockstep %s\nstate format %d\nDuckDB %s\n%s\n", v.Lockstep, v.StateFormat, v.DuckDB, v.Go)
	return err
}

func duckVersion() (string, error) {
	db, err := sql.Open("duckdb", "")
	if err != nil {
		return "", fmt.Errorf("cannot open DuckDB: %w", err)
	}
	defer db.Close()
	var v string
	if err := db.QueryRow("SELECT version()").Scan(&v); err != nil {
		return "", fmt.Errorf("cannot ask DuckDB for its version: %w", err)
	}
	return v, nil
}
