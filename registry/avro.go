package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/twmb/avro"
)

const typeAvro = "AVRO"

// canonicalJSON is JSON without white space, keys sorted, numbers as written.
func canonicalJSON(text string) (string, error) {
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return "", err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return "", errors.New("text follows the schema")
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "", err
	}
	return string(bytes.TrimRight(out.Bytes(), "\n")), nil
}

// identify gives a text that is equal for the same schema.
func identify(text string, references []reference) string {
	canonical, err := canonicalJSON(text)
	if err != nil {
		canonical = text
	}
	if len(references) == 0 {
		return canonical
	}
	refs, _ := json.Marshal(references) // strings and ints
	return canonical + "\x00" + string(refs)
}

// compact is the text as it is kept and answered: as written, without white
// space.
func compact(text string) (string, error) {
	var out bytes.Buffer
	if err := json.Compact(&out, []byte(text)); err != nil {
		return "", err
	}
	return out.String(), nil
}

// normalized is the one form of all ways to write a schema: attributes sorted,
// {"type":"x"} as "x". A schema with references keeps its names and is only
// sorted.
func normalized(text string, parsed *avro.Schema, references []reference) (string, error) {
	if len(references) > 0 {
		return canonicalJSON(text)
	}
	s, err := parsed.Root().Schema()
	if err != nil {
		return "", err
	}
	return canonicalJSON(s.String())
}

// maxReferenceDepth bounds chains of references, which a topic from elsewhere
// might make a circle of.
const maxReferenceDepth = 64

// parse reads a schema text whose references are versions of this state.
func (s *state) parse(text string, references []reference) (*avro.Schema, error) {
	var cache avro.SchemaCache
	if err := s.load(&cache, references, 0); err != nil {
		return nil, err
	}
	return cache.Parse(text)
}

// load parses the referenced schemas into the cache, those they reference
// first.
func (s *state) load(cache *avro.SchemaCache, references []reference, depth int) error {
	if depth > maxReferenceDepth {
		return fmt.Errorf("references are more than %d deep", maxReferenceDepth)
	}
	for _, r := range references {
		v := s.find(r.Subject, r.Version)
		if v == nil {
			return fmt.Errorf("reference %s: subject %s has no version %d", r.Name, r.Subject, r.Version)
		}
		if err := s.load(cache, v.schema.references, depth+1); err != nil {
			return err
		}
		if _, err := cache.Parse(v.schema.text); err != nil {
			return fmt.Errorf("reference %s: subject %s, version %d: %w", r.Name, r.Subject, r.Version, err)
		}
	}
	return nil
}

// resolveReferences replaces -1 and 0 by the latest version and refuses what
// is not there.
func (s *state) resolveReferences(references []reference) ([]reference, error) {
	var out []reference
	for _, r := range references {
		live := s.live(r.Subject)
		if r.Name == "" || len(live) == 0 {
			return nil, fmt.Errorf("reference %q: subject %q not found", r.Name, r.Subject)
		}
		if r.Version <= 0 {
			r.Version = live[len(live)-1].number
		}
		if v := s.find(r.Subject, r.Version); v == nil || v.deleted {
			return nil, fmt.Errorf("reference %q: subject %q has no version %d", r.Name, r.Subject, r.Version)
		}
		out = append(out, r)
	}
	return out, nil
}
