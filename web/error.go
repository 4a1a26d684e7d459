package web

import (
	"encoding/json"
	"errors"
	"net/http"
)

// Error is a failure as it travels between a running instance and a command:
// what went wrong, and what to do.
type Error struct {
	What string `json:"error"`
	Do   string `json:"do,omitempty"`
}

func (e *Error) Error() string {
	if e.Do == "" {
		return e.What
	}
	return e.What + "; " + e.Do
}

// asError gives the typed form of any error.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) && err.Error() == e.Error() {
		return e
	}
	return &Error{What: err.Error()}
}

func writeError(w http.ResponseWriter, status int, err error) {
	writeJSON(w, status, asError(err))
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // fails only when the caller is gone
}
