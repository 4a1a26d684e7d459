package embedded

import (
	"context"
	"errors"

	"lockstep/ingest"
	"lockstep/web"
)

// DeadLetters implements web.Backend.
func (i *Instance) DeadLetters(ctx context.Context, f web.LetterFilter) ([]web.Letter, error) {
	letters, err := i.letters(ctx, f)
	if err != nil {
		return nil, err
	}
	out := make([]web.Letter, 0, len(letters))
	for _, l := range letters {
		key, value := l.Raw()
		out = append(out, web.Letter{Topic: l.Topic, Partition: l.Partition, Offset: l.Offset, Reason: l.Reason, Detail: l.Detail, SchemaID: l.SchemaID, Time: l.Time, Key: key, Value: value, Done: l.Done})
	}
	return out, nil
}

// letters lists the letters that a filter names, by where their records stood
// if it says so.
func (i *Instance) letters(ctx context.Context, f web.LetterFilter) ([]ingest.Letter, error) {
	g := ingest.LetterFilter{Topic: f.Topic, Reason: f.Reason, Done: f.Done}
	if f.Partition == nil && f.Offset == nil {
		g.Limit = f.Limit
	}
	all, err := i.ingest.DeadLetters(ctx, g)
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

// ReplayLetters implements web.Backend.
func (i *Instance) ReplayLetters(ctx context.Context, f web.LetterFilter) (int, error) {
	f.Done = false
	letters, err := i.letters(ctx, f)
	if err != nil || len(letters) == 0 {
		return 0, err
	}
	ids := make([]string, len(letters))
	for n, l := range letters {
		ids[n] = l.ID
	}
	n, err := i.ingest.ReplayLetters(ctx, ingest.LetterFilter{Topic: f.Topic, Reason: f.Reason, IDs: ids})
	return n, errors.Join(err, i.countLetters(ctx))
}
