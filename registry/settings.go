package registry

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// Modes of the registry and of subjects.
const (
	modeReadWrite        = "READWRITE"
	modeReadOnly         = "READONLY"
	modeReadOnlyOverride = "READONLY_OVERRIDE" // global: no subject's own mode counts
	modeImport           = "IMPORT"
)

var modes = []string{modeReadWrite, modeReadOnly, modeReadOnlyOverride, modeImport}

func writable(subject, mode string) error {
	if mode == modeReadOnly || mode == modeReadOnlyOverride {
		return fail(codeOperationNotPermitted, "Subject %s is in read-only mode", subject)
	}
	return nil
}

// scope is the subject of a config or mode request; empty: the global one.
func scope(r *http.Request) (string, error) {
	if r.PathValue("subject") == "" {
		return "", nil
	}
	return subjectOf(r)
}

type configAnswer struct {
	CompatibilityLevel string `json:"compatibilityLevel"`
	Normalize          *bool  `json:"normalize,omitempty"`
}

// configRequest is the body and the answer of PUT. The fields of others
// are here to be refused.
type configRequest struct {
	Compatibility string `json:"compatibility,omitempty"`
	Normalize     *bool  `json:"normalize,omitempty"`
}

var unsupportedConfig = []string{
	"alias", "compatibilityGroup", "defaultMetadata", "overrideMetadata", "defaultRuleSet", "overrideRuleSet",
}

func (s *Server) getConfig(r *http.Request) (any, error) {
	subject, err := scope(r)
	if err != nil {
		return nil, err
	}
	var answer configAnswer
	err = s.log.read(func(st *state) error {
		set, ok := st.settings[subject]
		if subject != "" && !flag(r, "defaultToGlobal") && (!ok || set.Compatibility == "") {
			return fail(codeSubjectConfigNotFound, "Subject '%s' does not have subject-level compatibility configured", subject)
		}
		answer = configAnswer{st.compatibility(subject), set.Normalize}
		return nil
	})
	return answer, err
}

func readConfigRequest(r *http.Request) (configRequest, error) {
	var fields map[string]json.RawMessage
	if err := decode(r, &fields); err != nil {
		return configRequest{}, err
	}
	for _, name := range unsupportedConfig {
		if raw, ok := fields[name]; ok && string(raw) != "null" && string(raw) != `""` {
			return configRequest{}, fail(codeUnprocessable, "This registry does not keep %s", name)
		}
	}
	raw, _ := json.Marshal(fields)
	var req configRequest
	if err := json.Unmarshal(raw, &req); err != nil {
		return req, fail(codeUnprocessable, "Invalid config: %v", err)
	}
	req.Compatibility = strings.ToUpper(req.Compatibility)
	if _, ok := levels[req.Compatibility]; !ok && (req.Compatibility != "" || req.Normalize == nil) {
		return req, fail(codeInvalidCompatibility, "Invalid compatibility level. Valid values are %s", strings.Join(slices.Sorted(maps.Keys(levels)), ", "))
	}
	return req, nil
}

func (s *Server) putConfig(r *http.Request) (any, error) {
	subject, err := scope(r)
	if err != nil {
		return nil, err
	}
	req, err := readConfigRequest(r)
	if err != nil {
		return nil, err
	}
	err = s.log.write(r.Context(), func(st *state) ([]entry, error) {
		if err := writable(subject, st.mode(subject)); err != nil {
			return nil, err
		}
		old := st.settings[subject]
		value := configValue{
			Subject:            subject,
			CompatibilityLevel: cmp.Or(req.Compatibility, old.Compatibility),
			Normalize:          cmp.Or(req.Normalize, old.Normalize),
		}
		return []entry{{settingKey(keyConfig, subject), value}}, nil
	})
	return req, err
}

func (s *Server) deleteConfig(r *http.Request) (any, error) {
	subject, err := scope(r)
	if err != nil {
		return nil, err
	}
	var answer configAnswer
	err = s.log.write(r.Context(), func(st *state) ([]entry, error) {
		if err := writable(subject, st.mode(subject)); err != nil {
			return nil, err
		}
		old, ok := st.settings[subject]
		if !ok && subject != "" {
			return nil, errSubject(subject)
		}
		answer = configAnswer{cmp.Or(old.Compatibility, st.compatibility(subject)), old.Normalize}
		if !ok {
			return nil, nil
		}
		return []entry{{settingKey(keyConfig, subject), nil}}, nil
	})
	return answer, err
}

type modeAnswer struct {
	Mode string `json:"mode"`
}

func (s *Server) getMode(r *http.Request) (any, error) {
	subject, err := scope(r)
	if err != nil {
		return nil, err
	}
	var answer modeAnswer
	err = s.log.read(func(st *state) error {
		mode, ok := st.modes[subject]
		switch {
		case ok:
			answer.Mode = mode
		case subject == "" || flag(r, "defaultToGlobal"):
			answer.Mode = st.mode(subject)
		default:
			return fail(codeSubjectModeNotFound, "Subject '%s' does not have subject-level mode configured", subject)
		}
		return nil
	})
	return answer, err
}

func (s *Server) putMode(r *http.Request) (any, error) {
	subject, err := scope(r)
	if err != nil {
		return nil, err
	}
	var req modeAnswer
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	req.Mode = strings.ToUpper(req.Mode)
	if !slices.Contains(modes, req.Mode) || req.Mode == modeReadOnlyOverride && subject != "" {
		return nil, fail(codeInvalidMode, "Invalid mode. Valid values are %s", strings.Join(modes, ", "))
	}
	err = s.log.write(r.Context(), func(st *state) ([]entry, error) {
		if req.Mode == modeImport && !flag(r, "force") && st.hasSchemas(subject) {
			return nil, fail(codeOperationNotPermitted, "Cannot import since found existing subjects; set force=true to import all the same")
		}
		return []entry{{settingKey(keyMode, subject), modeValue{Subject: subject, Mode: req.Mode}}}, nil
	})
	return req, err
}

// hasSchemas reports whether a subject, or with "" any, has live versions.
func (s *state) hasSchemas(subject string) bool {
	if subject != "" {
		return len(s.live(subject)) > 0
	}
	return slices.ContainsFunc(s.subjectNames(), s.hasSchemas)
}

func (s *Server) deleteMode(r *http.Request) (any, error) {
	subject, err := scope(r)
	if err != nil {
		return nil, err
	}
	var answer modeAnswer
	err = s.log.write(r.Context(), func(st *state) ([]entry, error) {
		mode, ok := st.modes[subject]
		if !ok && subject != "" {
			return nil, errSubject(subject)
		}
		answer.Mode = cmp.Or(mode, modeReadWrite)
		if !ok {
			return nil, nil
		}
		return []entry{{settingKey(keyMode, subject), nil}}, nil
	})
	return answer, err
}
