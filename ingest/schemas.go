package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/avro"

	"lockstep/registry"
)

// schemas finds writer schemas by id without ever blocking the judge: an id
// that is not known yet is asked for in the background, and the records that
// need it wait.
type schemas struct {
	registry Registry
	recorded func(id int) (text string, ok bool)
	wake     func()

	ctx     context.Context
	running sync.WaitGroup

	mu      sync.Mutex
	entries map[int]*schemaEntry
}

type schemaEntry struct {
	asking bool
	asked  time.Time // when the question was put that gave missing
	node   *avro.SchemaNode
	text   string // self-contained
	fault  *fault // there is no usable schema
	reused error  // the id stands for another schema than before
	failed error  // the registry's last answer was none
}

func newSchemas(ctx context.Context, r Registry, recorded func(int) (string, bool), wake func()) *schemas {
	return &schemas{registry: r, recorded: recorded, wake: wake, ctx: ctx, entries: map[int]*schemaEntry{}}
}

const (
	askAgainFirst = 100 * time.Millisecond
	askAgainMost  = 5 * time.Second
	askTimeout    = 10 * time.Second
)

// find is what is known of an id for a record that was read from the log at
// polled. waiting: it is being asked for; failed says why that takes time.
//
// "Not found" holds for records that were read before the question was put:
// whoever registers a schema does so before producing with it.
func (s *schemas) find(id int, polled time.Time) (e schemaEntry, waiting bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.entries[id]
	if known == nil {
		known = &schemaEntry{}
		s.entries[id] = known
	}
	missing := known.fault != nil && known.fault.reason == ReasonUnknown
	if known.node != nil || known.reused != nil || known.fault != nil && (!missing || !known.asked.Before(polled)) {
		return *known, false
	}
	if !known.asking {
		known.asking = true
		s.running.Add(1)
		go s.ask(id)
	}
	return *known, true
}

// ask puts the question until there is an answer.
func (s *schemas) ask(id int) {
	defer s.running.Done()
	for pause := askAgainFirst; s.ctx.Err() == nil; pause = min(2*pause, askAgainMost) {
		asked := time.Now()
		ctx, cancel := context.WithTimeout(s.ctx, askTimeout)
		schema, err := s.registry.SchemaByID(ctx, id)
		cancel()
		if e, answered := s.answer(id, schema, err); answered {
			e.asked = asked
			s.mu.Lock()
			s.entries[id] = e
			s.mu.Unlock()
			s.wake()
			return
		}
		s.mu.Lock()
		s.entries[id].failed = err
		s.mu.Unlock()
		s.wake() // the topic's status shall say so
		select {
		case <-s.ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (s *schemas) answer(id int, schema *avro.Schema, err error) (e *schemaEntry, answered bool) {
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return &schemaEntry{fault: &fault{ReasonUnknown, fmt.Sprintf("the registry has no schema with id %d", id)}}, true
	case errors.Is(err, registry.ErrUnusable):
		return &schemaEntry{fault: &fault{ReasonUnusable, err.Error()}}, true
	case err != nil:
		return nil, false
	}
	node, text, err := selfContained(schema)
	if err != nil {
		return &schemaEntry{fault: &fault{ReasonUnusable, err.Error()}}, true
	}
	if before, ok := s.recorded(id); ok && before != text && normal(before) != text {
		return &schemaEntry{reused: fmt.Errorf("the registry gives another schema for id %d than when records with it were accepted: was the registry made anew? Restore its _schemas topic", id)}, true
	}
	return &schemaEntry{node: node, text: text}, true
}

// selfContained is a schema with its references to others written out.
func selfContained(s *avro.Schema) (*avro.SchemaNode, string, error) {
	node := s.Root().ExpandReferences()
	whole, err := node.Schema()
	if err != nil {
		return nil, "", fmt.Errorf("cannot write out the references of a schema: %w", err)
	}
	return node, whole.String(), nil
}

// normal is a recorded text as this version writes it.
func normal(text string) string {
	s, err := avro.Parse(text)
	if err != nil {
		return text
	}
	if _, again, err := selfContained(s); err == nil {
		return again
	}
	return text
}

// recall is the schema that accepted records were decoded with.
func (s *schemas) recall(id int) (*avro.SchemaNode, error) {
	text, ok := s.recorded(id)
	if !ok {
		return nil, fmt.Errorf("the step records lack schema %d", id)
	}
	parsed, err := avro.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("the step records hold a schema %d that cannot be read: %w", id, err)
	}
	return parsed.Root(), nil
}
