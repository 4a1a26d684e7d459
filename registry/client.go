package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/sr"
)

// What Client's errors are, by errors.Is.
var (
	// ErrNotFound: the registry answered that there is no such id or subject.
	// It may be registered later.
	ErrNotFound = errors.New("not in the registry")
	// ErrUnavailable: the registry gave no answer. Try again.
	ErrUnavailable = errors.New("the registry does not answer")
	// ErrUnusable: what the registry has is no Avro schema that can be read.
	// It will not become one.
	ErrUnusable = errors.New("no usable Avro schema")
	// ErrRefused: the registry refused a request; the message says why.
	ErrRefused = errors.New("the registry refused")
)

// Client reads schemas from any Confluent-compatible registry and remembers
// those it found: an id's schema never changes. It is safe for concurrent use.
type Client struct {
	rest *sr.Client

	mu    sync.RWMutex
	found map[int]*avro.Schema
}

// NewClient speaks to the registry at a URL. sr's options add credentials, TLS
// and the like.
func NewClient(url string, opts ...sr.ClientOpt) (*Client, error) {
	rest, err := sr.NewClient(append([]sr.ClientOpt{sr.URLs(url), sr.UserAgent("lockstep")}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("cannot use the registry at %s: %w", url, err)
	}
	return &Client{rest: rest, found: make(map[int]*avro.Schema)}, nil
}

// REST is the client beneath, for what this one does not cover.
func (c *Client) REST() *sr.Client { return c.rest }

// SchemaByID gives the schema of an id, references resolved. A schema that was
// found costs no request again; that one was not found is not remembered.
func (c *Client) SchemaByID(ctx context.Context, id int) (*avro.Schema, error) {
	c.mu.RLock()
	known := c.found[id]
	c.mu.RUnlock()
	if known != nil {
		return known, nil
	}
	answer, err := c.rest.SchemaByID(ctx, id)
	if err != nil {
		return nil, classify(fmt.Sprintf("cannot get schema %d", id), err)
	}
	parsed, err := c.parse(ctx, answer)
	if err != nil {
		return nil, fmt.Errorf("cannot use schema %d: %w", id, err)
	}
	c.mu.Lock()
	c.found[id] = parsed
	c.mu.Unlock()
	return parsed, nil
}

// Latest gives the newest version of a subject, parsed, and its id.
func (c *Client) Latest(ctx context.Context, subject string) (*avro.Schema, int, error) {
	answer, err := c.rest.SchemaByVersion(ctx, subject, latest)
	if err != nil {
		return nil, 0, classify("cannot get the latest schema of subject "+subject, err)
	}
	parsed, err := c.parse(ctx, answer.Schema)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot use the latest schema of subject %s: %w", subject, err)
	}
	return parsed, answer.ID, nil
}

// Register makes the schema a version of the subject, unless it is one, and
// gives its id. ErrRefused: it is not compatible or no Avro schema.
func (c *Client) Register(ctx context.Context, subject, schema string) (int, error) {
	id, err := c.rest.RegisterSchema(ctx, subject, sr.Schema{Schema: schema}, -1, -1)
	if err != nil {
		return 0, classify("cannot register a schema of subject "+subject, err)
	}
	return id, nil
}

func (c *Client) parse(ctx context.Context, s sr.Schema) (*avro.Schema, error) {
	var cache avro.SchemaCache
	if err := c.load(ctx, &cache, s, 0); err != nil {
		return nil, err
	}
	return parseInto(&cache, s)
}

func (c *Client) load(ctx context.Context, cache *avro.SchemaCache, s sr.Schema, depth int) error {
	if depth > maxReferenceDepth {
		return fmt.Errorf("%w: references are more than %d deep", ErrUnusable, maxReferenceDepth)
	}
	for _, ref := range s.References {
		answer, err := c.rest.SchemaByVersion(ctx, ref.Subject, ref.Version)
		if err != nil {
			return classify(fmt.Sprintf("cannot get subject %s, version %d", ref.Subject, ref.Version), err)
		}
		if err := c.load(ctx, cache, answer.Schema, depth+1); err != nil {
			return err
		}
		if _, err := parseInto(cache, answer.Schema); err != nil {
			return err
		}
	}
	return nil
}

func parseInto(cache *avro.SchemaCache, s sr.Schema) (*avro.Schema, error) {
	if s.Type != sr.TypeAvro {
		return nil, fmt.Errorf("%w: it is %s", ErrUnusable, s.Type)
	}
	parsed, err := cache.Parse(s.Schema)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	return parsed, nil
}

// classify tells an answer of the registry from none.
func classify(what string, err error) error {
	kind := ErrUnavailable
	var answer *sr.ResponseError
	if errors.As(err, &answer) {
		switch s := answer.StatusCode; {
		case s == http.StatusNotFound && answer.ErrorCode > 40400:
			kind = ErrNotFound
		case s == http.StatusNotFound, s == http.StatusTooManyRequests, s == http.StatusRequestTimeout, s >= 500:
			// A 404 without a code is a proxy's, or not a registry's at all.
		default:
			kind = ErrRefused
		}
	}
	return fmt.Errorf("%s: %w: %w", what, kind, err)
}
