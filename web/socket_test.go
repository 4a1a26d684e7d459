package web

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func serveSocket(t *testing.T, state string, b Backend) *Client {
	t.Helper()
	l, err := ListenSocket(state)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(nil)
	s.ServeCommands(l, b)
	t.Cleanup(func() { s.Close(context.Background()) })
	c, err := Dial(t.Context(), state)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestClientIsABackend asks everything through the socket.
func TestClientIsABackend(t *testing.T) {
	f := &fake{status: Status{Project: "p", Step: 7, Topics: []TopicStatus{{Topic: "t", Records: 5}}}}
	c := serveSocket(t, t.TempDir(), f)
	ctx := t.Context()
	one := int64(5)
	for name, ask := range map[string]func() (any, error){
		"verify":   func() (any, error) { return c.Verify(ctx, 12) },
		"rollback": func() (any, error) { return int64(3), c.Rollback(ctx, 3) },
		"release":  func() (any, error) { return "release", c.Release(ctx) },
		"maintain": func() (any, error) { return c.Maintain(ctx, MaintainRequest{}) },
		"batch":    func() (any, error) { return c.Batch(ctx, BatchRequest{Run: "r1", Select: []string{"a.b"}}) },
		"letters":  func() (any, error) { return c.DeadLetters(ctx, LetterFilter{Topic: "t", Offset: &one}) },
		"replay":   func() (any, error) { return c.ReplayLetters(ctx, LetterFilter{Reason: "r"}) },
		"status":   func() (any, error) { return c.Status(ctx) },
		"history":  func() (any, error) { return c.History(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			f.err = nil
			if v, err := ask(); err != nil || reflect.ValueOf(v).IsZero() {
				t.Fatalf("%v %v", v, err)
			}
			f.err = &Error{What: "cannot do it", Do: "try later"}
			_, err := ask()
			var e *Error
			if !errors.As(err, &e) || e.What != "cannot do it" || e.Do != "try later" {
				t.Errorf("the error arrived as %v", err)
			}
		})
	}
	f.err = nil
	if _, err := c.DeadLetters(ctx, LetterFilter{Topic: "t", Offset: &one}); err != nil || *f.last.(LetterFilter).Offset != 5 {
		t.Errorf("the filter arrived as %+v, %v", f.last, err)
	}
	if s, err := c.Status(ctx); err != nil || !reflect.DeepEqual(s, &f.status) {
		t.Errorf("%+v %v", s, err)
	}
}

func TestQueryThroughTheSocket(t *testing.T) {
	f := &fake{}
	c := serveSocket(t, t.TempDir(), f)
	r, err := c.Query(t.Context(), Query{SQL: "SELECT 1", Layer: "batch", AsOf: "3"})
	if err != nil {
		t.Fatal(err)
	}
	if f.last != (Query{SQL: "SELECT 1", Layer: "batch", AsOf: "3"}) || r.Step != 7 || r.Manifest != 3 || r.Frozen != "rolled back – until released" {
		t.Errorf("asked %+v, got %+v", f.last, r)
	}
	var got, want strings.Builder
	if err := WriteJSON(&got, r, 0); err != nil {
		t.Fatal(err)
	}
	r.Rows.Release()
	direct, _ := f.Query(t.Context(), Query{})
	WriteJSON(&want, direct, 0)
	if got.String() != want.String() {
		t.Errorf("%s\nwant\n%s", got.String(), want.String())
	}
	f.rowsErr = &Error{What: "the disk is full", Do: "free some"}
	if r, err = c.Query(t.Context(), Query{}); err != nil {
		t.Fatal(err)
	}
	defer r.Rows.Release()
	rows := 0
	for r.Rows.Next() {
		rows += int(r.Rows.RecordBatch().NumRows())
	}
	if err := r.Rows.Err(); rows != 2 || err == nil || !strings.Contains(err.Error(), "the disk is full; free some") {
		t.Errorf("%d rows, then %v", rows, err)
	}
}

// TestSocketPaths covers a stale socket, a path too long, and nobody.
func TestSocketPaths(t *testing.T) {
	state := t.TempDir()
	if _, err := Dial(t.Context(), state); !errors.Is(err, ErrNotRunning) {
		t.Errorf("nobody: %v", err)
	}
	stale, err := net.Listen("unix", filepath.Join(state, socketFile))
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	stale.Close()
	if _, err := Dial(t.Context(), state); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a stale socket: %v", err)
	}
	serveSocket(t, state, &fake{})
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 120))
	if err := os.Mkdir(long, 0o755); err != nil {
		t.Fatal(err)
	}
	c := serveSocket(t, long, &fake{})
	if _, err := c.History(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestCloseEndsWaiting wants Close to be done within its time also when a
// request never ends.
func TestCloseEndsWaiting(t *testing.T) {
	state := t.TempDir()
	l, err := ListenSocket(state)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(nil)
	asked := make(chan struct{})
	s.ServeCommands(l, waiting{&fake{}, asked})
	c, err := Dial(t.Context(), state)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := c.Verify(context.Background(), 0)
		ended <- err
	}()
	<-asked
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("the request was answered")
	}
}

// waiting verifies until the request is given up.
type waiting struct {
	*fake
	asked chan struct{}
}

func (w waiting) Verify(ctx context.Context, _ int64) (*VerifyReport, error) {
	close(w.asked)
	<-ctx.Done()
	return nil, ctx.Err()
}
