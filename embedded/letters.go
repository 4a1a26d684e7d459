package embedded

import (
	"context"
	"errors"

	"lockstep/web"
)

// DeadLetters implements web.Backend.
func (i *Instance) DeadLetters(ctx context.Context, f web.LetterFilter) ([]web.Letter, error) {
	return web.LogLetters{Letters: i.ingest.Letters()}.DeadLetters(ctx, f)
}

// ReplayLetters implements web.Backend.
func (i *Instance) ReplayLetters(ctx context.Context, f web.LetterFilter) (int, error) {
	n, err := web.LogLetters{Letters: i.ingest.Letters()}.ReplayLetters(ctx, f)
	if n == 0 {
		return n, err
	}
	return n, errors.Join(err, i.countLetters(ctx))
}
