package registry

import (
	"cmp"
	"maps"
	"slices"

	"github.com/twmb/avro"
)

// reference names a type that another subject's version defines.
type reference struct {
	Name    string `json:"name"`
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

// schema is one text under one id, whatever subjects use it.
type schema struct {
	id         int
	text       string
	references []reference
	identity   string // equal for the same schema
	uses       int    // versions that have it, soft-deleted ones included

	parsed *avro.Schema // nil until it was needed
}

// version is a schema as a subject's version.
type version struct {
	subject string
	number  int
	schema  *schema
	deleted bool // softly
}

// settings are those of a subject, or the global ones under "".
type settings struct {
	Compatibility string // empty: not set
	Normalize     *bool  // nil: not set
}

// state is what the records of _schemas add up to. It has no lock of its own.
type state struct {
	schemas    map[int]*schema
	identities map[string]*schema
	subjects   map[string][]*version // by number, soft-deleted ones included
	settings   map[string]settings
	modes      map[string]string
	maxID      int // highest id ever given

	defaultLevel string // compatibility where none is set
}

func newState(defaultLevel string) *state {
	return &state{
		defaultLevel: defaultLevel,

		schemas:    make(map[int]*schema),
		identities: make(map[string]*schema),
		subjects:   make(map[string][]*version),
		settings:   make(map[string]settings),
		modes:      make(map[string]string),
	}
}

// live are the versions of a subject that are not deleted, by number.
func (s *state) live(subject string) []*version { return s.versions(subject, false) }

func (s *state) versions(subject string, deleted bool) []*version {
	var vs []*version
	for _, v := range s.subjects[subject] {
		if deleted || !v.deleted {
			vs = append(vs, v)
		}
	}
	return vs
}

// find gives a version, also a soft-deleted one; nil: there is none.
func (s *state) find(subject string, number int) *version {
	vs := s.subjects[subject]
	i, ok := slices.BinarySearchFunc(vs, number, func(v *version, n int) int { return cmp.Compare(v.number, n) })
	if !ok {
		return nil
	}
	return vs[i]
}

// subjectNames are all subjects, sorted.
func (s *state) subjectNames() []string { return slices.Sorted(maps.Keys(s.subjects)) }

// withSchema are the versions that have the schema of this id, by subject.
func (s *state) withSchema(id int, deleted bool) []*version {
	var vs []*version
	for _, subject := range s.subjectNames() {
		for _, v := range s.versions(subject, deleted) {
			if v.schema.id == id {
				vs = append(vs, v)
			}
		}
	}
	return vs
}

// referencing are the live versions whose schemas name this version.
func (s *state) referencing(subject string, number int) []*version {
	var vs []*version
	for _, name := range s.subjectNames() {
		for _, v := range s.live(name) {
			if slices.ContainsFunc(v.schema.references, func(r reference) bool {
				return r.Subject == subject && r.Version == number
			}) {
				vs = append(vs, v)
			}
		}
	}
	return vs
}

// compatibility is the level that counts for a subject.
func (s *state) compatibility(subject string) string {
	return cmp.Or(s.settings[subject].Compatibility, s.settings[""].Compatibility, s.defaultLevel)
}

func (s *state) normalize(subject string) bool {
	for _, n := range []*bool{s.settings[subject].Normalize, s.settings[""].Normalize} {
		if n != nil {
			return *n
		}
	}
	return false
}

// mode is the mode that counts for a subject.
func (s *state) mode(subject string) string {
	if s.modes[""] == modeReadOnlyOverride {
		return modeReadOnlyOverride
	}
	return cmp.Or(s.modes[subject], s.modes[""], modeReadWrite)
}

// put sets a version. A version that is there is replaced.
func (s *state) put(subject string, number, id int, text string, references []reference, deleted bool) {
	sc := s.schemas[id]
	if identity := identify(text, references); sc == nil || sc.identity != identity {
		sc = &schema{id: id, text: text, references: references, identity: identity}
		s.schemas[id] = sc
		if s.identities[identity] == nil {
			s.identities[identity] = sc
		}
	}
	s.maxID = max(s.maxID, id)
	sc.uses++
	if old := s.find(subject, number); old != nil {
		s.release(old.schema)
		old.schema, old.deleted = sc, deleted
		return
	}
	vs := append(s.subjects[subject], &version{subject, number, sc, deleted})
	slices.SortFunc(vs, func(a, b *version) int { return cmp.Compare(a.number, b.number) })
	s.subjects[subject] = vs
}

// remove takes a version away for good, and its id when nothing else has it.
func (s *state) remove(subject string, number int) {
	v := s.find(subject, number)
	if v == nil {
		return
	}
	s.subjects[subject] = slices.DeleteFunc(slices.Clone(s.subjects[subject]), func(o *version) bool { return o == v })
	if len(s.subjects[subject]) == 0 {
		delete(s.subjects, subject)
	}
	s.release(v.schema)
}

func (s *state) release(sc *schema) {
	if sc.uses--; sc.uses > 0 {
		return
	}
	if s.schemas[sc.id] == sc {
		delete(s.schemas, sc.id)
	}
	if s.identities[sc.identity] == sc {
		delete(s.identities, sc.identity)
	}
}

// softDelete marks all versions of a subject up to a number.
func (s *state) softDelete(subject string, upTo int) {
	for _, v := range s.subjects[subject] {
		if v.number <= upTo {
			v.deleted = true
		}
	}
}
