package broker

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kfake"
)

// logger passes kfake's warnings and errors on and keeps what Close and Stats
// must tell: kfake reports failed writes only here.
type logger struct {
	log *slog.Logger

	mu            sync.Mutex
	storageErrors int64  // writes that failed since Open
	saveFailure   string // first failure of the save on Close
}

func (l *logger) Logf(level kfake.LogLevel, format string, args ...any) {
	if level > kfake.LogLevelWarn {
		return // a line per request
	}
	msg := fmt.Sprintf(format, args...)
	if isStorageFailure(msg) {
		l.mu.Lock()
		l.storageErrors++
		l.mu.Unlock()
		l.log.Error("the log cannot write to its disk", "error", msg)
		return
	}
	if level == kfake.LogLevelError {
		l.mu.Lock()
		if l.saveFailure == "" && strings.HasPrefix(msg, "persist to disk") {
			l.saveFailure = msg
		}
		l.mu.Unlock()
		l.log.Error("log", "message", msg)
		return
	}
	l.log.Warn("log", "message", msg)
}

// isStorageFailure tells kfake's failed writes from its other warnings.
func isStorageFailure(msg string) bool {
	return strings.HasPrefix(msg, "persist ") && !strings.HasPrefix(msg, "persist to disk")
}

func (l *logger) failures() (storageErrors int64, saveFailure string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.storageErrors, l.saveFailure
}
