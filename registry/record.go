package registry

import (
	"encoding/json"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Confluent's kinds of records in _schemas.
const (
	keySchema        = "SCHEMA"
	keyConfig        = "CONFIG"
	keyMode          = "MODE"
	keyDeleteSubject = "DELETE_SUBJECT"
	keyClearSubject  = "CLEAR_SUBJECT"
	keyNoop          = "NOOP"
)

// recordKey is the key of every record. The order of its fields is
// Confluent's: compaction compares bytes.
type recordKey struct {
	KeyType string  `json:"keytype"`
	Subject *string `json:"subject,omitempty"`
	Version int     `json:"version,omitempty"`
	Magic   int     `json:"magic"`
}

// globalKey is the key of global settings: Confluent writes their subject as
// null, not as missing.
type globalKey struct {
	KeyType string  `json:"keytype"`
	Subject *string `json:"subject"`
	Magic   int     `json:"magic"`
}

type schemaValue struct {
	Subject    string      `json:"subject"`
	Version    int         `json:"version"`
	ID         int         `json:"id"`
	SchemaType string      `json:"schemaType,omitempty"` // empty: AVRO
	References []reference `json:"references,omitempty"`
	Schema     string      `json:"schema"`
	Deleted    bool        `json:"deleted"`
}

type configValue struct {
	Subject            string `json:"subject,omitempty"`
	CompatibilityLevel string `json:"compatibilityLevel,omitempty"`
	Normalize          *bool  `json:"normalize,omitempty"`
}

type modeValue struct {
	Subject string `json:"subject,omitempty"`
	Mode    string `json:"mode"`
}

type deleteSubjectValue struct {
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

// entry is a record to write: value nil is a tombstone.
type entry struct {
	key   any
	value any
}

func schemaEntry(v schemaValue) entry {
	return entry{recordKey{KeyType: keySchema, Subject: &v.Subject, Version: v.Version, Magic: 1}, v}
}

func schemaTombstone(subject string, number int) entry {
	return entry{recordKey{KeyType: keySchema, Subject: &subject, Version: number, Magic: 1}, nil}
}

func settingKey(keyType, subject string) any {
	if subject == "" {
		return globalKey{KeyType: keyType}
	}
	return recordKey{KeyType: keyType, Subject: &subject}
}

func (e entry) record(topic string) (*kgo.Record, error) {
	key, err := json.Marshal(e.key)
	if err != nil {
		return nil, err
	}
	r := &kgo.Record{Topic: topic, Key: key}
	if e.value != nil {
		if r.Value, err = json.Marshal(e.value); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// apply adds a record to the state. An error says why a record was passed
// over; the state is as before then.
func (s *state) apply(r *kgo.Record) error {
	var key recordKey
	if err := json.Unmarshal(r.Key, &key); err != nil {
		return fmt.Errorf("its key is not the registry's: %w", err)
	}
	subject := ""
	if key.Subject != nil {
		subject = *key.Subject
	}
	switch key.KeyType {
	case keySchema:
		return s.applySchema(subject, key.Version, r.Value)
	case keyConfig:
		return s.applyConfig(subject, r.Value)
	case keyMode:
		return s.applyMode(subject, r.Value)
	case keyDeleteSubject:
		var v deleteSubjectValue
		if r.Value == nil {
			return nil
		}
		if err := json.Unmarshal(r.Value, &v); err != nil {
			return err
		}
		s.softDelete(v.Subject, v.Version)
	case keyClearSubject, keyNoop:
	default:
		return fmt.Errorf("its kind %q is unknown", key.KeyType)
	}
	return nil
}

func (s *state) applySchema(subject string, number int, value []byte) error {
	if value == nil {
		s.remove(subject, number)
		return nil
	}
	var v schemaValue
	if err := json.Unmarshal(value, &v); err != nil {
		return err
	}
	if v.Subject == "" || v.Version < 1 || v.ID < 0 {
		return fmt.Errorf("its schema has no subject, version or id")
	}
	if v.SchemaType != "" && v.SchemaType != typeAvro {
		return fmt.Errorf("its schema is %s, only AVRO is kept", v.SchemaType)
	}
	s.put(v.Subject, v.Version, v.ID, v.Schema, v.References, v.Deleted)
	return nil
}

func (s *state) applyConfig(subject string, value []byte) error {
	if value == nil {
		delete(s.settings, subject)
		return nil
	}
	var v configValue
	if err := json.Unmarshal(value, &v); err != nil {
		return err
	}
	if _, known := levels[v.CompatibilityLevel]; !known && v.CompatibilityLevel != "" {
		return fmt.Errorf("its compatibility level %q is unknown", v.CompatibilityLevel)
	}
	s.settings[subject] = settings{Compatibility: v.CompatibilityLevel, Normalize: v.Normalize}
	return nil
}

func (s *state) applyMode(subject string, value []byte) error {
	if value == nil {
		delete(s.modes, subject)
		return nil
	}
	var v modeValue
	if err := json.Unmarshal(value, &v); err != nil {
		return err
	}
	s.modes[subject] = v.Mode
	return nil
}
