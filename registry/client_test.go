package registry

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

func TestClientTellsItsErrorsApart(t *testing.T) {
	var status atomic.Int64
	var body atomic.Value
	requests := atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.WriteHeader(int(status.Load()))
		w.Write([]byte(body.Load().(string)))
	}))
	c, err := NewClient(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	kinds := []error{ErrNotFound, ErrUnavailable, ErrUnusable, ErrRefused}
	for _, k := range []struct {
		name   string
		status int
		body   string
		want   error
	}{
		{"no such id", 404, `{"error_code":40403,"message":"Schema 5 not found"}`, ErrNotFound},
		{"a proxy's 404", 404, `<html>`, ErrUnavailable},
		{"broken store", 500, `{"error_code":50001,"message":"x"}`, ErrUnavailable},
		{"starting", 503, ``, ErrUnavailable},
		{"too many requests", 429, ``, ErrUnavailable},
		{"no right", 401, `{"error_code":401,"message":"Unauthorized"}`, ErrRefused},
		{"not JSON", 200, `<html>`, ErrUnavailable},
		{"a JSON schema", 200, `{"schema":"{}","schemaType":"JSON"}`, ErrUnusable},
		{"no Avro", 200, `{"schema":"{\"type\":\"what\"}"}`, ErrUnusable},
		{"fine", 200, `{"schema":"\"string\""}`, nil},
	} {
		status.Store(int64(k.status))
		body.Store(k.body)
		_, err := c.SchemaByID(testContext(t), 5)
		for _, kind := range kinds {
			if errors.Is(err, kind) != (kind == k.want) {
				t.Errorf("%s: got %v, want %v", k.name, err, k.want)
			}
		}
	}
	// What was found is not asked for again, not even of a registry that is gone.
	before := requests.Load()
	server.Close()
	if s, err := c.SchemaByID(testContext(t), 5); err != nil || s == nil || requests.Load() != before {
		t.Errorf("from memory: %v, %v, %d requests", s, err, requests.Load()-before)
	}
	if _, err := c.SchemaByID(testContext(t), 6); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a registry that is gone gave %v", err)
	}
}

func TestClientRegisters(t *testing.T) {
	f := newFixture(t)
	ctx := testContext(t)
	c, err := NewClient(f.http.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Latest(ctx, "s"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no subject: %v", err)
	}
	id, err := c.Register(ctx, "s", one)
	if err != nil || id != 1 {
		t.Fatalf("registered as %d, %v", id, err)
	}
	if _, err := c.Register(ctx, "s", bad); !errors.Is(err, ErrRefused) {
		t.Errorf("an incompatible schema: %v", err)
	}
	if _, got, err := c.Latest(ctx, "s"); err != nil || got != 1 {
		t.Errorf("latest is %d, %v", got, err)
	}
}
