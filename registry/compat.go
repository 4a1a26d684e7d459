package registry

import (
	"fmt"
	"slices"

	"github.com/twmb/avro"
)

// Compatibility levels.
const (
	compatNone               = "NONE"
	compatBackward           = "BACKWARD"
	compatBackwardTransitive = "BACKWARD_TRANSITIVE"
	compatForward            = "FORWARD"
	compatForwardTransitive  = "FORWARD_TRANSITIVE"
	compatFull               = "FULL"
	compatFullTransitive     = "FULL_TRANSITIVE"
)

// level is what a compatibility level asks for.
type level struct {
	backward   bool // the new schema reads old data
	forward    bool // old schemas read new data
	transitive bool // against all versions, not only the latest
}

var levels = map[string]level{
	compatNone:               {},
	compatBackward:           {backward: true},
	compatBackwardTransitive: {backward: true, transitive: true},
	compatForward:            {forward: true},
	compatForwardTransitive:  {forward: true, transitive: true},
	compatFull:               {backward: true, forward: true},
	compatFullTransitive:     {backward: true, forward: true, transitive: true},
}

// against picks the versions that a new one is compared with.
func (l level) against(versions []*version) []*version {
	if l.transitive || len(versions) == 0 {
		return versions
	}
	return versions[len(versions)-1:]
}

// check compares a new schema with old versions, newest first, and gives why
// it does not go with them; nil: it does.
func (s *state) check(levelName string, next *avro.Schema, versions []*version) []string {
	l := levels[levelName]
	if !l.backward && !l.forward {
		return nil
	}
	var reasons []string
	for _, v := range slices.Backward(versions) {
		old, err := s.parse(v.schema.text, v.schema.references)
		if err != nil {
			reasons = append(reasons, fmt.Sprintf("version %d cannot be compared with: %v", v.number, err))
			continue
		}
		if l.backward {
			if err := readable(old, next); err != nil {
				reasons = append(reasons, fmt.Sprintf("BACKWARD: the new schema cannot read data of version %d: %v", v.number, err))
			}
		}
		if l.forward {
			if err := readable(next, old); err != nil {
				reasons = append(reasons, fmt.Sprintf("FORWARD: version %d cannot read data of the new schema: %v", v.number, err))
			}
		}
	}
	if reasons != nil {
		reasons = append(reasons, fmt.Sprintf("{compatibility: '%s'}", levelName))
	}
	return reasons
}

// readable says why a reader cannot read a writer's data; nil: it can.
func readable(writer, reader *avro.Schema) error {
	if err := avro.CheckCompatibility(writer, reader); err != nil {
		return err
	}
	return sameUnits(writer.Root().ExpandReferences(), reader.Root().ExpandReferences(), "")
}
