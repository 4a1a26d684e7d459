package spark

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// SpeedConfig says how the streaming application is started and what it is told.
type SpeedConfig struct {
	Submit string // the program spark-submit
	Master string // local[2], spark://host:port, ...
	Conf   string // file of further properties; empty: none
	Jars   string // class path of the Iceberg, Kafka and S3A jars; empty: Spark has them
	Dir    string // folder for application, plan and local state; anything in it can be lost
	Plan   *Plan
	// Settings are the application's, as app/main.py names them. They hold
	// credentials, so they go to it by its environment.
	Settings map[string]any
	// UntilIdle ends the application when it has read the log to its end.
	UntilIdle bool
	Event     func(Event) // told in order; may be nil
	Output    io.Writer   // what Spark writes to standard error; nil: thrown away
	Log       *slog.Logger
}

// Event is one line of the application's progress. Which fields are set depends
// on the kind: starting, caught up, running, step, status, manifest, stopped (a
// topic), failed, ended.
type Event struct {
	Kind     string `json:"event"`
	Step     int64  `json:"step"`
	Manifest int64  `json:"manifest"`
	Base     int64  `json:"base"`
	Code     int    `json:"code"`
	Topic    string `json:"topic"`
	Message  string `json:"message"`

	Rows     int64              `json:"rows"` // accepted in the step
	Accepted map[string]int64   `json:"accepted"`
	Dead     map[string]int64   `json:"dead"`
	Changed  map[string][]int64 `json:"changed"` // by model: scopes and rows
	Models   map[string]float64 `json:"models"`  // seconds of the model's query
	Seconds  map[string]float64 `json:"seconds"` // by stage
	Ages     [][2]float64       `json:"ages"`    // seconds from log to speed, records of that age
	Time     float64            `json:"time"`    // Unix, seconds
	Newest   float64            `json:"newest"`  // log time of the newest record, Unix; 0: none

	Lag     map[string]int64            `json:"lag"` // by topic: records in the log and in no step
	Waiting map[string]string           `json:"waiting"`
	Stopped map[string]string           `json:"stopped"`
	Totals  map[string]map[string]int64 `json:"totals"`
}

// ErrTakenOver says that another driver of the same project writes to its
// tables. There must be one only.
var ErrTakenOver = errors.New("another speed layer of this project has taken over")

// Exit codes of the application.
const (
	exitAgain     = 4
	exitTakenOver = 5
)

const (
	takenOverLimit = 3                // within the time below, after which it is not a leftover of our own
	takenOverTime  = 30 * time.Minute //
	failureLimit   = 5                // in a row without a step, where the end is waited for
	stopWait       = 3 * time.Minute  // for the batch that runs
	longestPause   = 30 * time.Second // between two starts
)

// RunSpeed keeps the streaming application running until ctx ends, and then
// lets it end between two batches. An application that dies is started again:
// what it did stands in the lake.
func RunSpeed(ctx context.Context, c SpeedConfig) error {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	s := &supervisor{SpeedConfig: c}
	if _, err := exec.LookPath(c.Submit); err != nil {
		return fmt.Errorf("cannot start Spark: %w; name the program spark-submit in spark_submit", err)
	}
	if err := s.prepare(); err != nil {
		return err
	}
	pause := time.Second
	var taken []time.Time
	for failures := 0; ; {
		s.moved = false
		code, err := s.once(ctx)
		if s.moved {
			failures, pause = 0, time.Second
		}
		switch {
		case err == nil && code == 0:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("the speed layer did not end by itself: %w", errors.Join(err, s.last))
		case code == exitTakenOver:
			taken = slices.DeleteFunc(append(taken, time.Now()), func(t time.Time) bool { return time.Since(t) > takenOverTime })
			if len(taken) >= takenOverLimit {
				return fmt.Errorf("%w: %w; end it, then start this one again", ErrTakenOver, s.last)
			}
		default:
			if failures++; c.UntilIdle && failures >= failureLimit {
				return fmt.Errorf("the speed layer failed %d times in a row: %w", failures, errors.Join(err, s.last))
			}
		}
		c.Log.Warn("the speed layer has ended and is started again", "code", code, "error", errors.Join(err, s.last), "pause", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

type supervisor struct {
	SpeedConfig
	env   string
	last  error // what the application said it failed of
	moved bool  // it took a step, or ran, since it was started
}

func (s *supervisor) stopFile() string { return filepath.Join(s.Dir, "stop") }

// prepare writes what the application reads.
func (s *supervisor) prepare() error {
	if err := WriteApp(filepath.Join(s.Dir, "app")); err != nil {
		return err
	}
	plan, err := json.Marshal(s.Plan)
	if err != nil {
		return fmt.Errorf("cannot write the plan: %w", err)
	}
	path := filepath.Join(s.Dir, "plan.json")
	if err := os.WriteFile(path, plan, 0o644); err != nil {
		return fmt.Errorf("cannot write the plan: %w", err)
	}
	settings := map[string]any{"plan": path, "dir": s.Dir, "stop": s.stopFile(), "until_idle": s.UntilIdle, "supervisor": os.Getpid()}
	for k, v := range s.Settings {
		settings[k] = v
	}
	text, err := json.Marshal(settings)
	s.env = "LOCKSTEP_SPEED=" + string(text)
	return err
}

func (s *supervisor) arguments() []string {
	args := []string{"--master", s.Master, "--name", "lockstep-" + s.Plan.Project}
	if s.Conf != "" {
		args = append(args, "--properties-file", s.Conf)
	} else {
		args = append(args, "--driver-memory", "1g", "--driver-java-options", "-XX:+UseSerialGC -Xss4m -Duser.timezone=UTC",
			"--conf", "spark.ui.enabled=false", "--conf", "spark.driver.host=127.0.0.1", "--conf", "spark.driver.bindAddress=127.0.0.1")
	}
	if s.Jars != "" {
		args = append(args, "--driver-class-path", s.Jars, "--conf", "spark.executor.extraClassPath="+s.Jars)
	}
	return append(args, filepath.Join(s.Dir, "app", "main.py"))
}

// once runs the application to its end.
func (s *supervisor) once(ctx context.Context) (code int, err error) {
	s.last = nil
	if err := s.clean(); err != nil {
		return 0, err
	}
	cmd := exec.Command(s.Submit, s.arguments()...)
	cmd.Dir = s.Dir
	cmd.Env = append(os.Environ(), s.env, "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1")
	cmd.Stderr = s.Output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a signal of the terminal must not cut a batch
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, fmt.Errorf("cannot start Spark: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("cannot start Spark: %w", err)
	}
	s.tell(Event{Kind: "starting"})
	ended := make(chan struct{})
	go s.stopper(ctx, cmd.Process.Pid, ended)
	s.read(out)
	err = cmd.Wait()
	close(ended)
	// What is left of the group has lost its other half.
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if code = exit.ExitCode(); code < 0 {
			code = exitAgain
		}
		return code, err
	}
	return 0, err
}

// clean removes the request to stop and the local state of earlier starts.
func (s *supervisor) clean() error {
	old, err := filepath.Glob(filepath.Join(s.Dir, "overlay-*"))
	if err != nil {
		return err
	}
	for _, path := range append(old, s.stopFile()) {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("cannot remove the local state of an earlier start: %w", err)
		}
	}
	return nil
}

// stopper asks the application to end between two batches when ctx ends.
func (s *supervisor) stopper(ctx context.Context, group int, ended <-chan struct{}) {
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	if err := os.WriteFile(s.stopFile(), nil, 0o644); err != nil {
		s.Log.Error("cannot ask the speed layer to end", "error", err)
	}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		select {
		case <-ended:
			return
		case <-time.After(stopWait):
			_ = syscall.Kill(-group, signal)
		}
	}
}

// read passes the application's lines on; what is no event is Spark's.
func (s *supervisor) read(out io.Reader) {
	lines := bufio.NewReaderSize(out, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		var e Event
		if len(line) > 0 && line[0] == '{' && json.Unmarshal(line, &e) == nil && e.Kind != "" {
			s.tell(e)
		} else if s.Output != nil && len(line) > 0 {
			_, _ = s.Output.Write(line)
		}
		if err != nil {
			return
		}
	}
}

func (s *supervisor) tell(e Event) {
	switch e.Kind {
	case "running", "step":
		s.moved = true
	case "failed":
		s.last = errors.New(e.Message)
	}
	if s.Event != nil {
		s.Event(e)
	}
}
