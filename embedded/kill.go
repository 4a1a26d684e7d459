package embedded

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// KillVariable is the environment variable of crash tests: "point#n" ends the
// process as kill -9 does when it passes the point for the n-th time.
const KillVariable = "LOCKSTEP_KILL"

// KillHook gives the hook that a value of KillVariable asks for; nil for none.
func KillHook(spec string) (func(point string), error) {
	if spec == "" {
		return nil, nil
	}
	point, count, _ := strings.Cut(spec, "#")
	n := int64(1)
	if count != "" {
		var err error
		if n, err = strconv.ParseInt(count, 10, 64); err != nil {
			return nil, fmt.Errorf("cannot read %s=%q: write point#n", KillVariable, spec)
		}
	}
	var passed atomic.Int64
	return func(at string) {
		if at == point && passed.Add(1) == n {
			_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
			select {}
		}
	}, nil
}
