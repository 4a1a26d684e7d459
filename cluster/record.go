package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"lockstep/compile"
	"lockstep/lake"
	"lockstep/project"
)

// speedTable holds the rows of every scope that the stream changed, by step.
const speedTable = "lockstep.speed"

// speedColumns are those of the speed table; see docs/cluster.md.
var speedColumns = []project.Column{
	{Name: "step", Type: project.Type{Kind: project.Bigint}},
	{Name: "model", Type: project.Type{Kind: project.String}},
	{Name: "fingerprint", Type: project.Type{Kind: project.String}},
	{Name: "scope", Type: project.Type{Kind: project.String}},
	{Name: "empty", Type: project.Type{Kind: project.Boolean}},
	{Name: "row", Type: project.Type{Kind: project.String}},
}

// StepRecord says where a step of the stream ends. The streaming application
// writes it into the snapshot that holds the step's rows.
type StepRecord struct {
	Step     int64                      `json:"step"`
	Program  string                     `json:"program"` // fingerprint of the program that made it
	Ends     map[string]map[int32]int64 `json:"ends"`    // next offset, by topic and topic partition
	TopicIDs map[string]string          `json:"topic_ids"`
	Accepted map[string]int64           `json:"accepted"` // records in all, by topic
	Dead     map[string]int64           `json:"dead"`     // dead letters in all, by topic
	Time     string                     `json:"time"`     // of the commit, RFC 3339
	Newest   string                     `json:"newest"`   // log time of the newest record, RFC 3339; empty: none
}

// Freshness is how long the newest record of the step was on its way.
func (r *StepRecord) Freshness() time.Duration {
	at, err1 := time.Parse(time.RFC3339Nano, r.Time)
	newest, err2 := time.Parse(time.RFC3339Nano, r.Newest)
	if err1 != nil || err2 != nil || at.Before(newest) {
		return 0
	}
	return at.Sub(newest)
}

// moment is one state of what is served: the tables of a manifest, and the
// steps of the stream behind it.
type moment struct {
	step     int64
	manifest *lake.Manifest // nil: none
	frozen   string         // why the step does not move; empty: it does
	ends     map[string]map[int32]int64

	// Where live, rows of the speed table above the manifest's step and up to
	// step take the place of the manifest's.
	live   bool
	speed  int64 // snapshot of the speed table; 0: it has none
	record *StepRecord
}

func (m *moment) after() int64 {
	if m.manifest == nil {
		return 0
	}
	return m.manifest.Step
}

func (m *moment) manifestID() int64 {
	if m.manifest == nil {
		return 0
	}
	return m.manifest.ID
}

// snapshot of a model's table; 0: it has no rows of this program.
func (m *moment) snapshot(model *compile.Model) int64 {
	if m.manifest == nil {
		return 0
	}
	if m.live && m.manifest.Fingerprints[model.Name] != model.Fingerprint {
		return 0 // a batch model that changed has no rows until the next run
	}
	return m.manifest.Tables[model.Name]
}

// frozenAt is what a manifest published, and nothing behind it.
func frozenAt(m lake.Manifest, why string) *moment {
	return &moment{step: m.Step, manifest: &m, frozen: why, ends: m.Offsets}
}

// current says whether a manifest's tables are those of the program's
// incremental models: only then do steps of the stream fit on them.
func current(p *compile.Program, m lake.Manifest) bool {
	for _, model := range p.Models {
		if model.Relation != nil && m.Fingerprints[model.Name] != model.Fingerprint {
			return false
		}
	}
	return true
}

// now is what is served at this moment.
func (b *Backend) now(ctx context.Context) (*moment, error) {
	if frozen, err := b.rolledBack(ctx); frozen != nil || err != nil {
		return frozen, err
	}
	return b.live(ctx)
}

// live is what is served where nothing was rolled back. It is read again when
// a manifest was published meanwhile: rows that only the one before needs may
// be gone then.
func (b *Backend) live(ctx context.Context) (*moment, error) {
	for {
		newest, any, err := b.lake.NewestManifest(ctx)
		if err != nil {
			return nil, err
		}
		m, err := b.momentOver(ctx, newest, any)
		if err != nil {
			return nil, err
		}
		again, _, err := b.lake.NewestManifest(ctx)
		if err != nil || again.ID == newest.ID {
			return m, err
		}
	}
}

func (b *Backend) momentOver(ctx context.Context, newest lake.Manifest, any bool) (*moment, error) {
	record, speed, err := b.lastStep(ctx)
	if err != nil {
		return nil, err
	}
	if record != nil && record.Program != b.program.Fingerprint {
		if any && !current(b.program, newest) {
			return frozenAt(newest, fmt.Sprintf("the models changed: manifest %d is served until `lockstep speed` runs them and a batch has published them", newest.ID)), nil
		}
		if any {
			return frozenAt(newest, fmt.Sprintf("the stream runs other models: manifest %d is served until `lockstep speed` runs these", newest.ID)), nil
		}
		return &moment{frozen: "the stream runs other models, and nothing was published: start `lockstep speed` with these"}, nil
	}
	base, err := b.base(ctx, newest, any)
	if err != nil {
		return nil, err
	}
	m := &moment{manifest: base, live: true, speed: speed, record: record, step: 0}
	if base != nil {
		m.step, m.ends = base.Step, base.Offsets
	}
	if record != nil && record.Step > m.step {
		m.step, m.ends = record.Step, record.Ends
	}
	return m, nil
}

// base is the newest manifest of this program's models; nil: there is none.
func (b *Backend) base(ctx context.Context, newest lake.Manifest, any bool) (*lake.Manifest, error) {
	if !any {
		return nil, nil
	}
	if current(b.program, newest) {
		return &newest, nil
	}
	all, err := b.lake.Manifests(ctx)
	if err != nil {
		return nil, err
	}
	for i := len(all) - 1; i >= 0; i-- {
		if current(b.program, all[i]) {
			return &all[i], nil
		}
	}
	return nil, nil
}

// lastStep is the last step that the stream committed, and the snapshot of the
// speed table that holds it; nil: none yet.
func (b *Backend) lastStep(ctx context.Context) (*StepRecord, int64, error) {
	head, err := b.lake.Head(ctx, speedTable)
	if errors.Is(err, lake.ErrNoTable) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read the last step of the stream: %w", err)
	}
	text, _ := head.Property(lake.StepKey)
	if text == "" {
		return nil, head.Snapshot, nil
	}
	r := &StepRecord{}
	if err := json.Unmarshal([]byte(text), r); err != nil {
		return nil, 0, fmt.Errorf("cannot read the last step of the stream: property %s of table %s: %w", lake.StepKey, speedTable, err)
	}
	return r, head.Snapshot, nil
}

// rollbackObject keeps a rollback until it is released.
const rollbackObject = "rollback.json"

type rollbackState struct {
	Manifest int64 `json:"manifest"`
}

// rolledBack is the manifest that a rollback chose; nil: none.
func (b *Backend) rolledBack(ctx context.Context) (*moment, error) {
	text, err := b.lake.Objects().Get(ctx, rollbackObject)
	if errors.Is(err, lake.ErrNoObject) {
		return nil, nil
	}
	var state rollbackState
	if err == nil {
		err = json.Unmarshal(text, &state)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the rollback: %s: %w", rollbackObject, err)
	}
	m, err := b.lake.Manifest(ctx, state.Manifest)
	if err != nil {
		return nil, fmt.Errorf("cannot serve the manifest of the rollback: %w: `lockstep rollback --release` ends the rollback", err)
	}
	return frozenAt(m, fmt.Sprintf("rolled back to manifest %d until `lockstep rollback --release`", m.ID)), nil
}
