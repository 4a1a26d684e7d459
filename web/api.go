package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow/ipc"
)

// Limits of what may be asked over TCP. The socket of the state folder, which
// only the owner of the folder can open, has none.
const (
	maxRequestBytes = 1 << 20
	maxTCPRows      = 10_000
	tcpQueryTime    = 30 * time.Second
)

// Headers of a query's answer.
const (
	headerStep     = "Lockstep-Step"
	headerManifest = "Lockstep-Manifest"
	headerFrozen   = "Lockstep-Frozen"
	headerError    = "Lockstep-Error" // trailer: what went wrong after the first rows
)

const arrowStream = "application/vnd.apache.arrow.stream"

// readAPI is what everybody may ask who can reach the port.
func readAPI(mux *http.ServeMux, b Backend) {
	mux.HandleFunc("GET /api/status", call(func(ctx context.Context, _ struct{}) (any, error) { return b.Status(ctx) }))
	mux.HandleFunc("GET /api/history", call(func(ctx context.Context, _ struct{}) (any, error) { return b.History(ctx) }))
}

// fullAPI is what commands on the same machine may ask: everything.
func fullAPI(mux *http.ServeMux, b Backend) {
	readAPI(mux, b)
	mux.HandleFunc("POST /api/query", func(w http.ResponseWriter, r *http.Request) { queryArrow(w, r, b) })
	mux.HandleFunc("POST /api/verify", call(func(ctx context.Context, q verifyRequest) (any, error) { return b.Verify(ctx, q.Step) }))
	mux.HandleFunc("POST /api/rollback", call(func(ctx context.Context, q rollbackRequest) (any, error) {
		return struct{}{}, b.Rollback(ctx, q.Manifest)
	}))
	mux.HandleFunc("POST /api/release", call(func(ctx context.Context, _ struct{}) (any, error) { return struct{}{}, b.Release(ctx) }))
	mux.HandleFunc("POST /api/maintain", call(func(ctx context.Context, r MaintainRequest) (any, error) { return b.Maintain(ctx, r) }))
	mux.HandleFunc("POST /api/batch", call(func(ctx context.Context, q BatchRequest) (any, error) { return b.Batch(ctx, q) }))
	mux.HandleFunc("POST /api/dlq", call(func(ctx context.Context, f LetterFilter) (any, error) { return b.DeadLetters(ctx, f) }))
	mux.HandleFunc("POST /api/dlq/replay", call(func(ctx context.Context, f LetterFilter) (any, error) {
		n, err := b.ReplayLetters(ctx, f)
		return replayedLetters{n}, err
	}))
}

type verifyRequest struct {
	Step int64 `json:"step"`
}

type rollbackRequest struct {
	Manifest int64 `json:"manifest"`
}

type replayedLetters struct {
	Replayed int `json:"replayed"`
}

// call makes a handler of a function from a JSON request to a JSON answer.
func call[Q any](f func(context.Context, Q) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q Q
		if r.Method == http.MethodPost {
			if err := readJSON(w, r, &q); err != nil {
				writeError(w, http.StatusBadRequest, err)
				return
			}
		}
		answer, err := f(r.Context(), q)
		if err != nil {
			writeError(w, http.StatusUnprocessableEntity, err)
			return
		}
		writeJSON(w, http.StatusOK, answer)
	}
}

// readJSON reads a request. Only JSON is taken: a page of another site cannot
// send that content type without being asked first by the browser.
func readJSON(w http.ResponseWriter, r *http.Request, into any) error {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return &Error{What: "cannot read the request: its content type is not application/json", Do: "send Content-Type: application/json"}
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequestBytes))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("cannot read the request: %w", err)
	}
	return nil
}

// queryArrow answers a query as an Arrow IPC stream: exact types, no limit.
func queryArrow(w http.ResponseWriter, r *http.Request, b Backend) {
	var q Query
	if err := readJSON(w, r, &q); err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	result, err := b.Query(r.Context(), q)
	if err != nil {
		writeError(w, http.StatusUnprocessableEntity, err)
		return
	}
	defer result.Rows.Release()
	writeStep(w.Header(), result)
	w.Header().Set("Content-Type", arrowStream)
	w.Header().Set("Trailer", headerError)
	if err := writeArrow(w, result); err != nil {
		text, _ := json.Marshal(asError(err))
		w.Header().Set(headerError, string(text))
	}
}

func writeArrow(w http.ResponseWriter, result *Result) error {
	out := ipc.NewWriter(w, ipc.WithSchema(result.Rows.Schema()))
	for result.Rows.Next() {
		if err := out.Write(result.Rows.RecordBatch()); err != nil {
			return fmt.Errorf("cannot send rows: %w", err)
		}
	}
	return errors.Join(result.Rows.Err(), out.Close())
}

func writeStep(h http.Header, r *Result) {
	h.Set(headerStep, strconv.FormatInt(r.Step, 10))
	h.Set(headerManifest, strconv.FormatInt(r.Manifest, 10))
	if r.Frozen != "" {
		h.Set(headerFrozen, strconv.QuoteToASCII(r.Frozen))
	}
}

// queryJSON answers a query of the status page or of a script over TCP, with a
// limit on rows and time.
func queryJSON(w http.ResponseWriter, r *http.Request, b Backend) {
	var q Query
	if err := readJSON(w, r, &q); err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), tcpQueryTime)
	defer cancel()
	result, err := b.Query(ctx, q)
	if err != nil {
		writeError(w, http.StatusUnprocessableEntity, err)
		return
	}
	defer result.Rows.Release()
	w.Header().Set("Content-Type", "application/json")
	if err := WriteJSON(w, result, maxTCPRows); err != nil {
		// Part of the answer may be out: break it off, so that nobody takes
		// it for whole.
		panic(http.ErrAbortHandler)
	}
}
