package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"lockstep/embedded"
)

// sourceFile in the state says what is replayed into it, so that a later run
// that names no source continues the same one.
const sourceFile = "source.json"

type source struct {
	Data  string  `json:"data,omitempty"` // absolute
	Scale float64 `json:"scale,omitempty"`
}

// recallSource takes the source of the earlier runs on the state, if there is
// one.
func (a *app) recallSource(o *embedded.RunOptions) error {
	path := filepath.Join(a.state, sourceFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var before source
	if err == nil {
		err = json.Unmarshal(text, &before)
	}
	if err != nil {
		return fmt.Errorf("cannot read which source is replayed: %s: %w; give it again with --data or --scale", path, err)
	}
	if before.Data != "" {
		if _, err := os.Stat(before.Data); err != nil {
			a.say("the raw files in %s are gone; nothing is replayed\n", before.Data)
			before.Data = ""
		}
	}
	o.Data, o.Scale = before.Data, before.Scale
	return nil
}

// rememberSource notes the source in the state, which must be ours. A source
// that a run has not proved yet does not replace one that is noted: the replay
// refuses other inputs than the state began with.
func (a *app) rememberSource(o embedded.RunOptions, proved bool) error {
	path := filepath.Join(a.state, sourceFile)
	if o.Data == "" && o.Scale == 0 {
		return nil
	}
	if _, err := os.Stat(path); err == nil && !proved {
		return nil
	}
	now := source{Scale: o.Scale}
	if o.Data != "" {
		full, err := filepath.Abs(o.Data)
		if err != nil {
			return fmt.Errorf("cannot name the folder of --data: %w", err)
		}
		now.Data = full
	}
	text, err := json.Marshal(now)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("cannot remember the source of the replay: %w", err)
	}
	return nil
}
