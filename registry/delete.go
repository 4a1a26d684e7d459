package registry

import "net/http"

// deleteVersion deletes a version, first softly and then, with permanent=true,
// for good.
func (s *Server) deleteVersion(r *http.Request) (any, error) {
	subject, err := subjectOf(r)
	if err != nil {
		return nil, err
	}
	n, err := versionOf(r)
	if err != nil {
		return nil, err
	}
	permanent := flag(r, "permanent")
	var deleted int
	err = s.log.write(r.Context(), func(st *state) ([]entry, error) {
		v, err := st.deletable(subject, n, permanent)
		if err != nil {
			return nil, err
		}
		deleted = v.number
		if permanent {
			return []entry{schemaTombstone(subject, v.number)}, nil
		}
		return []entry{schemaEntry(schemaValue{
			Subject: subject, Version: v.number, ID: v.schema.id,
			References: v.schema.references, Schema: v.schema.text, Deleted: true,
		})}, nil
	})
	return deleted, err
}

func (s *state) deletable(subject string, n int, permanent bool) (*version, error) {
	if err := writable(subject, s.mode(subject)); err != nil {
		return nil, err
	}
	// "latest" is the newest version that this call can delete.
	v, err := pick(s, subject, n, n != latest || permanent)
	switch {
	case err != nil:
		return nil, err
	case v.deleted && !permanent:
		return nil, fail(codeVersionSoftDeleted, "Subject '%s' Version %d was soft deleted. Set permanent=true to delete permanently", subject, v.number)
	case !v.deleted && permanent:
		return nil, fail(codeVersionNotSoftDeleted, "Subject '%s' Version %d was not deleted first before being permanently deleted", subject, v.number)
	}
	return v, s.unreferenced(v, "")
}

// unreferenced refuses to delete what another subject's live schema needs.
func (s *state) unreferenced(v *version, except string) error {
	for _, by := range s.referencing(v.subject, v.number) {
		if by.subject != except {
			return fail(codeReferenceExists, "One or more references exist to the schema {magic=1,keytype=SCHEMA,subject=%s,version=%d}: subject %s, version %d", v.subject, v.number, by.subject, by.number)
		}
	}
	return nil
}

// deleteSubject deletes all versions of a subject with its own settings.
func (s *Server) deleteSubject(r *http.Request) (any, error) {
	subject, err := subjectOf(r)
	if err != nil {
		return nil, err
	}
	permanent := flag(r, "permanent")
	deleted := []int{}
	err = s.log.write(r.Context(), func(st *state) ([]entry, error) {
		vs, err := st.deletableSubject(subject, permanent)
		if err != nil {
			return nil, err
		}
		for _, v := range vs {
			deleted = append(deleted, v.number)
		}
		if permanent {
			return tombstones(vs), nil
		}
		return st.softDeletion(subject, vs[len(vs)-1].number), nil
	})
	return deleted, err
}

func (s *state) deletableSubject(subject string, permanent bool) ([]*version, error) {
	if err := writable(subject, s.mode(subject)); err != nil {
		return nil, err
	}
	all, live := s.versions(subject, true), s.live(subject)
	switch {
	case len(all) == 0:
		return nil, errSubject(subject)
	case permanent && len(live) > 0:
		return nil, fail(codeSubjectNotSoftDeleted, "Subject '%s' was not deleted first before being permanently deleted", subject)
	case !permanent && len(live) == 0:
		return nil, fail(codeSubjectSoftDeleted, "Subject '%s' was soft deleted. Set permanent=true to delete permanently", subject)
	}
	vs := live
	if permanent {
		vs = all
	}
	for _, v := range vs {
		if err := s.unreferenced(v, subject); err != nil {
			return nil, err
		}
	}
	return vs, nil
}

func tombstones(vs []*version) []entry {
	var entries []entry
	for _, v := range vs {
		entries = append(entries, schemaTombstone(v.subject, v.number))
	}
	return entries
}

func (s *state) softDeletion(subject string, upTo int) []entry {
	entries := []entry{{
		recordKey{KeyType: keyDeleteSubject, Subject: &subject},
		deleteSubjectValue{Subject: subject, Version: upTo},
	}}
	if _, ok := s.modes[subject]; ok {
		entries = append(entries, entry{settingKey(keyMode, subject), nil})
	}
	if _, ok := s.settings[subject]; ok {
		entries = append(entries, entry{settingKey(keyConfig, subject), nil})
	}
	return entries
}
