package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"lockstep/lake"
	"lockstep/project"
)

// Check is one thing that a doctor looked at.
type Check struct {
	Part    string  `json:"part"`
	Asked   string  `json:"check"`
	State   string  `json:"state"`            // see the constants
	Found   string  `json:"found"`            // what is there, or what is wrong
	Remedy  string  `json:"remedy,omitempty"` // how to mend it
	Seconds float64 `json:"seconds"`
}

// States of a Check.
const (
	CheckOK      = "ok"
	CheckWarning = "warning" // works, but not as it should be
	CheckFailed  = "failed"
	CheckSkipped = "skipped" // cannot be asked before something else is mended
)

// Fault is what a check finds wrong.
type Fault struct {
	Problem string
	Remedy  string
	Warning bool // works all the same
}

// Error says what is wrong, not the remedy.
func (f *Fault) Error() string { return f.Problem }

// mend gives an error with its remedy; nil for nil.
func mend(err error, remedy string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Fault{Problem: err.Error(), Remedy: fmt.Sprintf(remedy, args...)}
}

// Doctor asks things one after another and reports each as it is known.
type Doctor struct {
	Report func(Check)
	checks []Check
}

// Ask asks one thing, within a time, and says whether it works. ask gives what
// it found, or a *Fault or other error.
func (d *Doctor) Ask(ctx context.Context, part, asked string, within time.Duration, ask func(context.Context) (string, error)) bool {
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("it has not answered within %s", within))
	defer cancel()
	began := time.Now()
	found, err := ask(ctx)
	c := Check{Part: part, Asked: asked, State: CheckOK, Found: found, Seconds: time.Since(began).Seconds()}
	if err != nil {
		c.State, c.Found = CheckFailed, err.Error()
		var f *Fault
		if errors.As(err, &f) {
			c.Remedy = f.Remedy
			if f.Warning {
				c.State = CheckWarning
			}
		}
		if cause := context.Cause(ctx); cause != nil && c.State == CheckFailed {
			c.Found = fmt.Sprintf("%v (%s)", cause, c.Found)
		}
	}
	d.add(c)
	return c.State == CheckOK || c.State == CheckWarning
}

func (d *Doctor) skip(part, asked, why string) {
	d.add(Check{Part: part, Asked: asked, State: CheckSkipped, Found: why})
}

func (d *Doctor) add(c Check) {
	d.checks = append(d.checks, c)
	if d.Report != nil {
		d.Report(c)
	}
}

// Checks are those made so far.
func (d *Doctor) Checks() []Check { return d.checks }

// examination is what the checks of a cluster share.
type examination struct {
	*Doctor
	config  *Config
	project *project.Project
	log     *slog.Logger
	scratch string // names what is made, and removed again
	lake    *lake.Lake
}

// Examine checks every part of a cluster: that it answers, its version, and that
// it lets us do what Lockstep does. What a check makes has a name of its own that
// holds "doctor", and is removed again.
func Examine(ctx context.Context, d *Doctor, p *project.Project, c *Config, log *slog.Logger) {
	b := make([]byte, 6)
	rand.Read(b)
	e := &examination{Doctor: d, config: c, project: p, log: log, scratch: "doctor_" + hex.EncodeToString(b)}
	e.kafka(ctx)
	e.registry(ctx)
	bucket := e.objects(ctx)
	made := e.catalog(ctx, bucket)
	e.submit(ctx)
	e.thrift(ctx, made)
	if e.lake != nil {
		e.dropTable(ctx)
		if err := e.lake.Close(); err != nil {
			log.Warn("cannot close the lake", "error", err)
		}
	}
}
