package web

import (
	"context"

	"lockstep/ingest"
)

// LogLetters answers for the dead letters of a log as a Backend must.
type LogLetters struct{ *ingest.Letters }

// DeadLetters implements Backend.
func (l LogLetters) DeadLetters(ctx context.Context, f LetterFilter) ([]Letter, error) {
	letters, err := l.chosen(ctx, f)
	if err != nil {
		return nil, err
	}
	out := make([]Letter, 0, len(letters))
	for _, l := range letters {
		key, value := l.Raw()
		out = append(out, Letter{Topic: l.Topic, Partition: l.Partition, Offset: l.Offset, Reason: l.Reason, Detail: l.Detail, SchemaID: l.SchemaID, Time: l.Time, Key: key, Value: value, Done: l.Done})
	}
	return out, nil
}

// chosen lists the letters that a filter names, by where their records stood
// if it says so.
func (l LogLetters) chosen(ctx context.Context, f LetterFilter) ([]ingest.Letter, error) {
	g := ingest.LetterFilter{Topic: f.Topic, Reason: f.Reason, Done: f.Done}
	if f.Partition == nil && f.Offset == nil {
		g.Limit = f.Limit
	}
	all, err := l.List(ctx, g)
	if err != nil {
		return nil, err
	}
	var out []ingest.Letter
	for _, l := range all {
		if (f.Partition == nil || l.Partition == *f.Partition) && (f.Offset == nil || l.Offset == *f.Offset) {
			out = append(out, l)
		}
	}
	return out, nil
}

// ReplayLetters implements Backend.
func (l LogLetters) ReplayLetters(ctx context.Context, f LetterFilter) (int, error) {
	f.Done = false
	letters, err := l.chosen(ctx, f)
	if err != nil || len(letters) == 0 {
		return 0, err
	}
	ids := make([]string, len(letters))
	for n, l := range letters {
		ids[n] = l.ID
	}
	return l.Replay(ctx, ingest.LetterFilter{Topic: f.Topic, Reason: f.Reason, IDs: ids})
}
