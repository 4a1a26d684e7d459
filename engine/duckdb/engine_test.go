package duckdb_test

import (
	"testing"

	"lockstep/engine"
	"lockstep/engine/duckdb"
	"lockstep/engine/enginetest"
)

func TestEngine(t *testing.T) {
	enginetest.Run(t, func(*testing.T) engine.Engine { return duckdb.Engine{} })
}

// TestEngineOfSharedInstance: many small databases in one instance behave as
// each in its own.
func TestEngineOfSharedInstance(t *testing.T) {
	instance, err := duckdb.Options{Threads: 1}.Connector()
	if err != nil {
		t.Fatal(err)
	}
	defer instance.Close()
	enginetest.Run(t, func(*testing.T) engine.Engine { return duckdb.Engine{Instance: instance} })
}
