package stack

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Options say what to bring up and where.
type Options struct {
	Dir       string   // state, logs and data of the parts; made if it is not there
	Groups    []string // groups of parts; default: core and spark
	FirstPort int      // 0: that of stack.yaml
	FreePorts bool     // free ports of the system instead; they are kept in Dir
	Cache     string   // default: CacheDir
	Rendered  string   // folder of what `lockstep render` made, for monitoring, airflow and superset
	Lockstep  string   // the lockstep program, which the group lockstep runs and which renders
	Log       *slog.Logger
}

// Stack is a set of running parts with one folder.
type Stack struct {
	Config *Config
	Dir    string
	Cache  string
	state  state
	log    *slog.Logger
	in     *Installer
}

// state is what a stack must know again in another process.
type state struct {
	Groups   []string       `json:"groups"`
	Ports    map[string]int `json:"ports"`
	Cluster  string         `json:"kafka_cluster"` // Kafka's ids, 16 random bytes each
	Disks    []string       `json:"kafka_directories"`
	Rendered string         `json:"rendered,omitempty"`
	Lockstep string         `json:"lockstep,omitempty"`
}

// Up installs and starts the groups in order, and waits until every part
// answers. Parts that run already are left alone, and data in Dir is kept. After
// an error what was started still runs: call Down on the stack, which is given
// all the same unless Dir itself cannot be used.
func Up(ctx context.Context, o Options) (*Stack, error) {
	s, err := open(o)
	if err != nil {
		return nil, err
	}
	if err := s.in.Install(ctx, s.state.Groups); err != nil {
		return s, err
	}
	if err := s.prepare(); err != nil {
		return s, err
	}
	if err := s.render(ctx); err != nil {
		return s, err
	}
	var waves [][]part
	for _, p := range s.parts() {
		if n := len(waves); n > 0 && waves[n-1][0].wave == p.wave {
			waves[n-1] = append(waves[n-1], p)
		} else {
			waves = append(waves, []part{p})
		}
	}
	for _, wave := range waves {
		if err := s.startAll(ctx, wave); err != nil {
			return s, err
		}
	}
	return s, nil
}

// Load finds a stack that was brought up before, by this process or another.
func Load(dir string) (*Stack, error) {
	if _, err := os.Stat(filepath.Join(dir, stateFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot find a stack in %s: there is no %s; `go run ./deploy up --dir %s` makes one", dir, stateFile, dir)
	}
	return open(Options{Dir: dir})
}

const stateFile = "stack.json"

func open(o Options) (*Stack, error) {
	config, err := LoadConfig()
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	if o.Cache == "" {
		if o.Cache, err = CacheDir(); err != nil {
			return nil, err
		}
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Stack{Config: config, Dir: dir, Cache: o.Cache, log: o.Log, in: &Installer{Config: config, Cache: o.Cache, Log: o.Log}}
	if err := s.loadState(o); err != nil {
		return nil, fmt.Errorf("cannot use %s for a stack: %w", dir, err)
	}
	return s, nil
}

// loadState reads stack.json, or makes it, and adds the groups that are asked for.
func (s *Stack) loadState(o Options) error {
	for _, g := range o.Groups {
		if !slices.Contains(Groups, g) {
			return fmt.Errorf("there is no group of parts %q; there are %s", g, strings.Join(Groups, ", "))
		}
	}
	for _, folder := range []string{"logs", "pids", "bin"} {
		if err := os.MkdirAll(filepath.Join(s.Dir, folder), 0o755); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(filepath.Join(s.Dir, stateFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := s.newState(o); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		if err := json.Unmarshal(text, &s.state); err != nil {
			return fmt.Errorf("cannot read %s: %w", stateFile, err)
		}
	}
	s.addPorts()
	want := append(o.Groups, s.state.Groups...)
	s.state.Groups = nil
	for _, g := range Groups {
		if slices.Contains(want, g) {
			s.state.Groups = append(s.state.Groups, g)
		}
	}
	if o.Rendered != "" {
		if s.state.Rendered, err = filepath.Abs(o.Rendered); err != nil {
			return err
		}
	}
	if o.Lockstep != "" {
		if s.state.Lockstep, err = filepath.Abs(o.Lockstep); err != nil {
			return err
		}
	}
	text, err = json.MarshalIndent(s.state, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(s.Dir, stateFile), string(text)+"\n")
}

func (s *Stack) newState(o Options) error {
	if len(o.Groups) == 0 {
		s.state.Groups = []string{Core, Spark}
	}
	s.state.Cluster = kafkaID()
	for range kafkaNodes {
		s.state.Disks = append(s.state.Disks, kafkaID())
	}
	if o.FreePorts {
		var err error
		s.state.Ports, err = freePorts(s.Config.Ports)
		return err
	}
	first := o.FirstPort
	if first == 0 {
		first = s.Config.FirstPort
	}
	s.state.Ports = map[string]int{}
	for name, offset := range s.Config.Ports {
		s.state.Ports[name] = first + offset
	}
	return nil
}

// addPorts gives ports to parts that a newer stack.yaml has and stack.json has not.
func (s *Stack) addPorts() {
	missing := map[string]int{}
	for name, offset := range s.Config.Ports {
		if s.state.Ports[name] == 0 {
			missing[name] = offset
		}
	}
	if found, err := freePorts(missing); err == nil {
		for name, port := range found {
			s.state.Ports[name] = port
		}
	}
}

// kafkaID is 16 random bytes as Kafka writes them.
func kafkaID() string {
	b := make([]byte, 16)
	rand.Read(b)
	b[0] &= 0x7f // an id must not begin with a dash, which would read as a flag
	return base64.RawURLEncoding.EncodeToString(b)
}

// part gives a part of the chosen groups by name.
func (s *Stack) part(name string) (part, error) {
	var names []string
	for _, p := range s.parts() {
		if p.name == name {
			return p, nil
		}
		names = append(names, p.name)
	}
	return part{}, fmt.Errorf("the stack in %s has no part %q; it has %s", s.Dir, name, strings.Join(names, ", "))
}

// Parts names the parts in the order in which they start.
func (s *Stack) Parts() []string {
	var names []string
	for _, p := range s.parts() {
		names = append(names, p.name)
	}
	return names
}

// Start starts a part that does not run and waits until it answers.
func (s *Stack) Start(ctx context.Context, name string) error {
	p, err := s.part(name)
	if err != nil {
		return err
	}
	return s.startAll(ctx, []part{p})
}

// Stop ends a part in order, by force after its grace.
func (s *Stack) Stop(ctx context.Context, name string) error {
	p, err := s.part(name)
	if err != nil {
		return err
	}
	return s.stopAll(ctx, []part{p})
}

// Kill ends a part at once (SIGKILL), with the processes that it started.
func (s *Stack) Kill(name string) error {
	if _, err := s.part(name); err != nil {
		return err
	}
	return s.kill(name)
}

// Down stops all parts in reverse order. Data and logs stay.
func (s *Stack) Down(ctx context.Context) error {
	var errs []error
	parts := s.parts()
	for len(parts) > 0 {
		first := len(parts) - 1
		for first > 0 && parts[first-1].wave == parts[first].wave {
			first--
		}
		errs = append(errs, s.stopAll(ctx, parts[first:]))
		parts = parts[:first]
	}
	return errors.Join(errs...)
}

// Remove deletes the folder of a stack that is down, data and logs with it.
func (s *Stack) Remove() error {
	for _, p := range s.parts() {
		if s.PID(p.name) != 0 {
			return fmt.Errorf("cannot remove %s: %s runs", s.Dir, p.name)
		}
	}
	return errors.Join(os.RemoveAll(s.postgresDir()), os.RemoveAll(s.Dir))
}

// PartStatus is how a part fares.
type PartStatus struct {
	Part     string `json:"part"`
	PID      int    `json:"pid"`      // 0: it does not run
	Healthy  bool   `json:"healthy"`  // it answers
	Why      string `json:"why"`      // why not
	RSS      int64  `json:"rss"`      // bytes, with the processes that it started
	Address  string `json:"address"`  // host:port
	Log      string `json:"log"`      // file
	Duration string `json:"duration"` // since its start
}

// Status asks every part once.
func (s *Stack) Status(ctx context.Context) []PartStatus {
	var out []PartStatus
	for _, p := range s.parts() {
		st := PartStatus{Part: p.name, PID: s.PID(p.name), Address: s.addr(p.port), Log: s.logFile(p.name)}
		if st.PID == 0 {
			st.Why = "it does not run"
		} else {
			st.RSS = groupRSS(st.PID)
			if info, err := os.Stat(s.pidFile(p.name)); err == nil {
				st.Duration = time.Since(info.ModTime()).Round(time.Second).String()
			}
			ask, cancel := context.WithTimeout(ctx, 10*time.Second)
			if err := p.ready(ask); err != nil {
				st.Why = err.Error()
			} else {
				st.Healthy = true
			}
			cancel()
		}
		out = append(out, st)
	}
	return out
}

// Port is the port of a name of stack.yaml.
func (s *Stack) Port(name string) int {
	port, ok := s.state.Ports[name]
	if !ok {
		panic(fmt.Sprintf("stack.yaml has no port %q", name))
	}
	return port
}

func (s *Stack) addr(port string) string { return fmt.Sprintf("127.0.0.1:%d", s.Port(port)) }

// url is the address of an HTTP part.
func (s *Stack) url(port, path string) string { return "http://" + s.addr(port) + path }

// path is a path in the stack's folder.
func (s *Stack) path(elements ...string) string {
	return filepath.Join(append([]string{s.Dir}, elements...)...)
}

// cached is a path in the cache.
func (s *Stack) cached(elements ...string) string {
	return filepath.Join(append([]string{s.Cache}, elements...)...)
}

func (s *Stack) has(group string) bool { return slices.Contains(s.state.Groups, group) }

// writeFile replaces a file, with its folder.
func writeFile(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
