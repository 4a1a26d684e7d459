package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// apiError is an answer in Confluent's terms: the first digits of its code, or
// the code itself when it has three, are the HTTP status.
type apiError struct {
	Code    int    `json:"error_code"`
	Message string `json:"message"`
}

func (e *apiError) Error() string { return fmt.Sprintf("%s (%d)", e.Message, e.Code) }

func (e *apiError) status() int {
	if e.Code >= 1000 {
		return e.Code / 100
	}
	return e.Code
}

func fail(code int, format string, args ...any) *apiError {
	return &apiError{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Confluent's error codes.
const (
	codeIncompatible          = 409
	codeUnprocessable         = 422
	codeSubjectNotFound       = 40401
	codeVersionNotFound       = 40402
	codeSchemaNotFound        = 40403
	codeSubjectSoftDeleted    = 40404
	codeSubjectNotSoftDeleted = 40405
	codeVersionSoftDeleted    = 40406
	codeVersionNotSoftDeleted = 40407
	codeSubjectConfigNotFound = 40408
	codeSubjectModeNotFound   = 40409
	codeInvalidSchema         = 42201
	codeInvalidVersion        = 42202
	codeInvalidCompatibility  = 42203
	codeInvalidMode           = 42204
	codeOperationNotPermitted = 42205
	codeReferenceExists       = 42206
	codeInvalidSubject        = 42208
	codeStoreError            = 50001
	codeStoreTimeout          = 50002
)

func errSubject(subject string) error {
	return fail(codeSubjectNotFound, "Subject '%s' not found.", subject)
}

func errVersion(version int) error {
	return fail(codeVersionNotFound, "Version %d not found.", version)
}

func writeError(w http.ResponseWriter, err error) {
	var e *apiError
	if !errors.As(err, &e) {
		e = fail(codeStoreError, "Error in the backend data store: %v", err)
	}
	writeAnswer(w, e.status(), e)
}

const contentType = "application/vnd.schemaregistry.v1+json"

func writeAnswer(w http.ResponseWriter, status int, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		status, raw = http.StatusInternalServerError, []byte(`{"error_code":500,"message":"cannot encode the answer"}`)
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	w.Write(raw)
}
