package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"lockstep/lake"
)

// Client asks a running instance through its socket. It is a Backend.
type Client struct {
	http *http.Client
}

var _ Backend = (*Client)(nil)

// Dial reaches the instance that owns a state folder. ErrNotRunning: none does.
func Dial(ctx context.Context, state string) (*Client, error) {
	path, err := socketOf(state)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", path) }
	conn, err := dial(ctx, "", "")
	if err != nil {
		return nil, fmt.Errorf("%w on %s (%v)", ErrNotRunning, state, err)
	}
	conn.Close()
	return &Client{http: &http.Client{Transport: &http.Transport{DialContext: dial}}}, nil
}

// Close drops idle connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// send makes one request; an answer that is not 200 is an *Error.
func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://lockstep"+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("cannot reach the running instance: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	failed := &Error{}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxRequestBytes)).Decode(failed); err != nil || failed.What == "" {
		return nil, fmt.Errorf("cannot ask the running instance: it answered %s to %s; use the same version of lockstep on both sides", resp.Status, path)
	}
	return nil, failed
}

func ask[A any](ctx context.Context, c *Client, method, path string, body any) (A, error) {
	var answer A
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return answer, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return answer, fmt.Errorf("cannot read the answer of the running instance: %w", err)
	}
	return answer, nil
}

func post[A any](ctx context.Context, c *Client, path string, body any) (A, error) {
	return ask[A](ctx, c, http.MethodPost, path, body)
}

// Query implements Backend.
func (c *Client) Query(ctx context.Context, q Query) (*Result, error) {
	resp, err := c.send(ctx, http.MethodPost, "/api/query", q)
	if err != nil {
		return nil, err
	}
	rows, err := ipc.NewReader(resp.Body)
	if err != nil {
		resp.Body.Close()
		return nil, fmt.Errorf("cannot read the rows of the running instance: %w", err)
	}
	r := &Result{Rows: &remoteRows{RecordReader: rows, resp: resp}}
	r.Step, _ = strconv.ParseInt(resp.Header.Get(headerStep), 10, 64)
	r.Manifest, _ = strconv.ParseInt(resp.Header.Get(headerManifest), 10, 64)
	r.Frozen, _ = strconv.Unquote(resp.Header.Get(headerFrozen))
	return r, nil
}

// remoteRows are rows that come over the socket. An error after the first of
// them stands in the trailer.
type remoteRows struct {
	array.RecordReader
	resp *http.Response
	err  error
}

func (r *remoteRows) Next() bool {
	if r.RecordReader.Next() {
		return true
	}
	// The trailer is there once the body was read to its end.
	io.Copy(io.Discard, r.resp.Body)
	if text := r.resp.Trailer.Get(headerError); text != "" && r.err == nil {
		failed := &Error{}
		if json.Unmarshal([]byte(text), failed) != nil {
			failed.What = text
		}
		r.err = failed
	}
	return false
}

func (r *remoteRows) Err() error {
	if r.err != nil {
		return r.err
	}
	return r.RecordReader.Err()
}

func (r *remoteRows) Release() {
	r.RecordReader.Release()
	r.resp.Body.Close()
}

// Verify implements Backend.
func (c *Client) Verify(ctx context.Context, step int64) (*VerifyReport, error) {
	return post[*VerifyReport](ctx, c, "/api/verify", verifyRequest{step})
}

// Status implements Backend.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return ask[*Status](ctx, c, http.MethodGet, "/api/status", nil)
}

// History implements Backend.
func (c *Client) History(ctx context.Context) ([]lake.Manifest, error) {
	return ask[[]lake.Manifest](ctx, c, http.MethodGet, "/api/history", nil)
}

// Rollback implements Backend.
func (c *Client) Rollback(ctx context.Context, manifest int64) error {
	_, err := post[struct{}](ctx, c, "/api/rollback", rollbackRequest{manifest})
	return err
}

// Release implements Backend.
func (c *Client) Release(ctx context.Context) error {
	_, err := post[struct{}](ctx, c, "/api/release", struct{}{})
	return err
}

// Maintain implements Backend.
func (c *Client) Maintain(ctx context.Context, r MaintainRequest) (*MaintainReport, error) {
	return post[*MaintainReport](ctx, c, "/api/maintain", r)
}

// Batch implements Backend.
func (c *Client) Batch(ctx context.Context, r BatchRequest) (*BatchReport, error) {
	return post[*BatchReport](ctx, c, "/api/batch", r)
}

// DeadLetters implements Backend.
func (c *Client) DeadLetters(ctx context.Context, f LetterFilter) ([]Letter, error) {
	return post[[]Letter](ctx, c, "/api/dlq", f)
}

// ReplayLetters implements Backend.
func (c *Client) ReplayLetters(ctx context.Context, f LetterFilter) (int, error) {
	answer, err := post[replayedLetters](ctx, c, "/api/dlq/replay", f)
	return answer.Replayed, err
}
