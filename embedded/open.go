package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/batch"
	"lockstep/broker"
	"lockstep/compile"
	"lockstep/dashboard"
	"lockstep/engine"
	"lockstep/engine/duckdb"
	"lockstep/ingest"
	"lockstep/lake"
	"lockstep/registry"
	"lockstep/replay"
	"lockstep/serve"
	"lockstep/speed"
	"lockstep/store"
	"lockstep/web"
)

// Instance is one open state with all its parts.
type Instance struct {
	cfg     Config
	started time.Time

	unlock      func()
	log         *broker.Broker
	registry    *registry.Server
	registryAPI *http.Server
	schemas     *registry.Client
	lake        *lake.Lake
	stream      *duckdb.Stream
	ingest      *ingest.Ingest
	server      *serve.Server
	batch       *batch.Runner
	speed       *speed.Layer
	web         *web.Server
	addresses   []web.Address

	rebuild   string // why the stream must be rebuilt; empty: it need not
	freshness speed.Freshness
	running   atomic.Bool // ingest runs
	meter     meter
	rates     rates
	lags      web.LagAge

	mu          sync.Mutex
	openLetters map[string]int64 // open dead letters by topic, less those that this process judged
	notReady    map[string]string
	batchNow    string
	lastBatch   *web.BatchReport
	drift       map[string]int64
	replay      *replay.Progress
	problems    map[string]string
}

// Open opens a state and all parts of it, in the order in which the data
// flows. Nothing moves until Run; queries are answered at once.
func Open(ctx context.Context, c Config) (*Instance, error) {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.MemoryLimit == 0 {
		c.MemoryLimit = 1 << 30
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		// The Go heap's part of the limit: above it the collector works harder
		// instead of letting garbage stand beside DuckDB's memory and the caches.
		debug.SetMemoryLimit(c.MemoryLimit * 6 / 10)
	}
	var err error
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return nil, fmt.Errorf("cannot find the state folder: %w", err)
	}
	i := &Instance{cfg: c, started: time.Now(), notReady: map[string]string{"start": "starting"}, drift: map[string]int64{}, problems: map[string]string{}}
	if err := i.open(ctx); err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

func (i *Instance) path(parts ...string) string {
	return filepath.Join(append([]string{i.cfg.Dir}, parts...)...)
}

func (i *Instance) open(ctx context.Context) error {
	unlock, err := openState(i.cfg.Dir, i.cfg.Program.Project.Name)
	if err != nil {
		return err
	}
	i.unlock = unlock
	for _, part := range []func(context.Context) error{i.clearTemp, i.openLog, i.openRegistry, i.openLake, i.openStream, i.openIngest, i.openServing, i.listen} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	i.ready("start")
	return nil
}

// clearTemp empties the folder where DuckDB spills.
func (i *Instance) clearTemp(context.Context) error {
	if err := os.RemoveAll(i.path("tmp")); err != nil {
		return fmt.Errorf("cannot clear %s: %w", i.path("tmp"), err)
	}
	for _, part := range []string{"speed", "batch"} {
		if err := os.MkdirAll(i.path("tmp", part), 0o755); err != nil {
			return fmt.Errorf("cannot make %s: %w", i.path("tmp", part), err)
		}
	}
	return nil
}

func (i *Instance) openLog(ctx context.Context) error {
	o := broker.Options{Dir: i.path("log"), Addr: i.cfg.Kafka, Flag: "--kafka", Log: i.cfg.Log, RetentionBytes: i.cfg.Program.Project.Retention.LogBytes}
	if age := i.cfg.Program.Project.Retention.LogAge; age != "" {
		o.RetentionAge, _ = time.ParseDuration(age)
	}
	if i.cfg.Quiet {
		o.Addr = "127.0.0.1:0"
	}
	var err error
	if i.log, err = broker.Open(o); err != nil {
		return err
	}
	if i.log.Moved() && !i.cfg.Quiet {
		i.cfg.Log.Warn("the default port of the log is taken", "listening", i.log.Addrs()[0])
	}
	for _, s := range i.cfg.Program.Project.Sources {
		if err := i.log.EnsureTopic(ctx, s.Topic, s.Partitions, nil); err != nil {
			return err
		}
	}
	return nil
}

func (i *Instance) openRegistry(ctx context.Context) error {
	var err error
	if i.registry, err = registry.New(ctx, registry.Config{ClientOpts: i.log.ClientOpts(), Log: i.cfg.Log}); err != nil {
		return err
	}
	fallback := "127.0.0.1:8081"
	if i.cfg.Quiet {
		fallback = "127.0.0.1:0"
	}
	l, moved, err := web.ListenTCP("registry", i.cfg.Registry, fallback)
	if err != nil {
		return err
	}
	if host, _, _ := net.SplitHostPort(l.Addr().String()); !net.ParseIP(host).IsLoopback() {
		l.Close()
		return fmt.Errorf("cannot serve the registry on %s: beyond loopback it needs a credential, which the embedded registry does not ask for: give --registry a loopback address", l.Addr())
	}
	if moved && !i.cfg.Quiet {
		i.cfg.Log.Warn("the default port of the registry is taken", "listening", l.Addr())
	}
	i.registryAPI = &http.Server{Handler: i.registry, ReadHeaderTimeout: 10 * time.Second}
	go i.registryAPI.Serve(l)
	i.addresses = append(i.addresses, web.Address{Name: "kafka", Addr: i.log.Addrs()[0]}, web.Address{Name: "registry", Addr: "http://" + l.Addr().String()})
	if i.schemas, err = registry.NewClient("http://" + l.Addr().String()); err != nil {
		return err
	}
	for _, s := range i.cfg.Program.Project.Sources {
		if _, err := i.schemas.Register(ctx, s.Topic+"-value", string(s.Schema)); err != nil {
			return fmt.Errorf("cannot register %s: %w: change the schema so that it stays compatible, or set the subject's compatibility", s.SchemaFile, err)
		}
	}
	return nil
}

func (i *Instance) openLake(ctx context.Context) error {
	var err error
	i.lake, err = lake.OpenWith(ctx, i.path("lake"), lake.Options{Logger: i.cfg.Log, Hook: func(e lake.Event) error {
		i.hook("lake." + e.Op + "." + e.Point)
		return nil
	}})
	return err
}

func (i *Instance) hook(point string) {
	if i.cfg.Hook != nil {
		i.cfg.Hook(point)
	}
}

// openStream opens the stream's state of the present models. States of other
// models stay until the present ones are served.
func (i *Instance) openStream(ctx context.Context) error {
	dir := i.path("speed", i.cfg.Program.Fingerprint)
	_, statErr := os.Stat(dir)
	eng := duckdb.Engine{Options: duckdb.Options{MemoryLimit: fmt.Sprintf("%dMiB", i.cfg.MemoryLimit>>22), TempDir: i.path("tmp", "speed")}}
	// A step asks for keys all over the store: filters and indexes must stay in
	// the cache, or each look-up reads them again.
	options := store.Options{CacheBytes: max(i.cfg.MemoryLimit/4, 64<<20)}
	s, err := eng.Open(ctx, i.cfg.Program, dir, options)
	switch {
	case errors.Is(err, store.ErrCorrupt), errors.Is(err, store.ErrFormat):
		i.cfg.Log.Warn("the stream's state cannot be read and is rebuilt from bronze", "err", err)
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("cannot remove the damaged state of the stream: %w", err)
		}
		if s, err = eng.Open(ctx, i.cfg.Program, dir, options); err != nil {
			return err
		}
		i.rebuild = "its state was damaged"
	case errors.Is(err, duckdb.ErrStale):
		i.rebuild = "an earlier rebuild was broken off"
	case err != nil:
		return err
	case statErr != nil:
		i.rebuild = "it has no state for these models"
	}
	i.stream = s
	return nil
}

func (i *Instance) openIngest(ctx context.Context) error {
	newest, _, err := i.lake.NewestManifest(ctx)
	if err != nil {
		return err
	}
	i.batch = &batch.Runner{Program: i.cfg.Program, Lake: i.lake, Serving: handOver{i}, Pin: i.pin, Dir: i.path("batch"),
		Options: duckdb.Options{MemoryLimit: fmt.Sprintf("%dMiB", max(i.cfg.MemoryLimit>>22, 128)), TempDir: i.path("tmp", "batch")},
		Hook:    i.cfg.Hook, Log: i.cfg.Log, Doing: i.setBatchNow}
	i.ingest, err = ingest.Open(ctx, ingest.Config{Project: i.cfg.Program.Project, ClientOptions: i.log.ClientOpts(), Registry: i.schemas, Lake: i.lake,
		Dir: i.path("ingest"), MinStep: max(newest.Step, i.stream.Last()), CommitEvery: i.cfg.CommitEvery, Spare: i.batch.Spare, Hook: i.cfg.Hook, Log: i.cfg.Log})
	return err
}

func (i *Instance) openServing(ctx context.Context) error {
	var err error
	i.server, err = serve.Open(ctx, serve.Config{Program: i.cfg.Program, Lake: i.lake, MemoryLimit: i.cfg.MemoryLimit / 2, TempDir: i.path("tmp")})
	if err != nil {
		return err
	}
	if err := i.restore(ctx); err != nil {
		return err
	}
	if err := i.countLetters(ctx); err != nil {
		return err
	}
	i.speed = &speed.Layer{Stream: i.stream, Overlay: i.server, Freshness: &i.freshness, Hook: i.cfg.Hook, Took: i.meter.took}
	return i.restoreFrozen(ctx)
}

// restore fills the serving layer from the newest manifest, the changes that
// the stream kept since, and the bronze rows that are not committed.
func (i *Instance) restore(ctx context.Context) error {
	newest, published, err := i.lake.NewestManifest(ctx)
	if err != nil {
		return err
	}
	committed := i.ingest.Committed()
	if committed.Step == 0 && !published {
		i.rebuild = "" // nothing is there to rebuild from: every step comes again
	}
	if what := i.changed(newest); published && what != "" {
		i.rebuild = what
	}
	if i.rebuild == "" {
		if i.rebuild, err = i.gap(newest); err != nil {
			return err
		}
	}
	readable := published && i.tablesExist(ctx, newest)
	if published && !readable {
		i.rebuild = fmt.Sprintf("tables of manifest %d are missing", newest.ID)
	}
	if i.rebuild != "" {
		return i.beforeRebuild(ctx, newest, readable)
	}
	var base *lake.Manifest
	from := int64(1)
	if published {
		base, from = &newest, newest.Step+1
	}
	if err := i.server.Reset(ctx, base); err != nil {
		return err
	}
	return i.catchUp(ctx, from, committed)
}

// beforeRebuild says what will be rebuilt, and serves what was published until
// then.
func (i *Instance) beforeRebuild(ctx context.Context, newest lake.Manifest, readable bool) error {
	what := "stream and batch are rebuilt from bronze: " + i.rebuild
	i.unready("rebuild", what)
	serving := "nothing"
	if readable {
		serving = fmt.Sprintf("manifest %d, frozen at step %d", newest.ID, newest.Step)
		if err := i.server.Freeze(ctx, newest.ID, "stale: "+what); err != nil {
			return err
		}
	}
	if !i.cfg.Quiet {
		i.cfg.Log.Warn(what, "served meanwhile", serving)
	}
	return nil
}

// gap says why published tables, stream and step records do not join; empty:
// they do.
func (i *Instance) gap(newest lake.Manifest) (string, error) {
	last, kept := i.stream.Last(), i.stream.Kept()
	if last < newest.Step {
		return fmt.Sprintf("its state stands at step %d, before the published step %d", last, newest.Step), nil
	}
	if kept > newest.Step {
		return fmt.Sprintf("what changed up to step %d is neither published nor kept", kept), nil
	}
	err := i.ingest.Continues(last)
	if errors.Is(err, ingest.ErrStepsLost) {
		return "the records of its steps are lost", nil
	}
	return "", err
}

// catchUp applies the kept changes from a step on, and the bronze tail.
func (i *Instance) catchUp(ctx context.Context, from int64, committed ingest.Committed) error {
	var step int64
	var changes []duckdb.Changes
	flush := func(next int64) error {
		if step == 0 || step == next {
			return nil
		}
		err := i.server.Apply(ctx, step, changes, nil)
		changes = nil
		return err
	}
	err := i.stream.EachChange(from, func(s int64, c duckdb.Changes) error {
		if err := flush(s); err != nil {
			return err
		}
		step, changes = s, append(changes, c)
		return nil
	})
	if err != nil {
		return err
	}
	if err := flush(-1); err != nil {
		return err
	}
	last := i.stream.Last()
	var tail engine.Tables
	if committed.Step < last {
		end, err := i.ingest.StepEnd(last)
		if err != nil {
			return err
		}
		if tail, err = i.ingest.Tail(ctx, committed.End, end); err != nil {
			return err
		}
	}
	return i.server.Restored(ctx, last, tail, serve.Bronze{Step: committed.Step, End: committed.End, Tables: committed.Tables})
}

// tablesExist says whether all tables of a manifest can be read.
func (i *Instance) tablesExist(ctx context.Context, m lake.Manifest) bool {
	for table, snapshot := range m.Tables {
		scan, err := i.lake.Scan(ctx, table, snapshot)
		if err != nil {
			i.cfg.Log.Warn("a published table cannot be read", "table", table, "manifest", m.ID, "err", err)
			return false
		}
		for _, file := range scan.Files {
			if _, err := os.Stat(file); err != nil {
				i.cfg.Log.Warn("a file of a published table is missing", "table", table, "manifest", m.ID, "err", err)
				return false
			}
		}
	}
	return true
}

// changed names the models that are not those of a manifest; empty: the
// incremental ones are the same.
func (i *Instance) changed(m lake.Manifest) string {
	var changed, added []string
	for _, model := range i.cfg.Program.Models {
		was, known := m.Fingerprints[model.Name]
		switch {
		case model.Relation == nil || was == model.Fingerprint:
		case known:
			changed = append(changed, model.Name)
		default:
			added = append(added, model.Name)
		}
	}
	var parts []string
	for _, p := range []struct {
		what  string
		names []string
	}{{"changed", changed}, {"new", added}} {
		if len(p.names) > 0 {
			parts = append(parts, p.what+": "+strings.Join(p.names, ", "))
		}
	}
	return strings.Join(parts, "; ")
}

// rebuilding says why stream and batch must be rebuilt; empty: they need not.
func (i *Instance) rebuilding() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.rebuild
}

func (i *Instance) rebuilt() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.rebuild = ""
}

// listen opens page and socket.
func (i *Instance) listen(context.Context) error {
	i.web = web.NewServer(i.cfg.Log)
	if i.cfg.Quiet {
		return nil
	}
	password := os.Getenv(web.PasswordVariable)
	if i.cfg.Listen != "" {
		if err := web.CheckListen(i.cfg.Listen, password); err != nil {
			return err
		}
	}
	l, moved, err := web.ListenTCP("listen", i.cfg.Listen, "127.0.0.1:8080")
	if err != nil {
		return err
	}
	if moved {
		i.cfg.Log.Warn("the default port of the page is taken", "listening", l.Addr())
	}
	lineage := compile.Graph(i.cfg.Program)
	i.web.ServePeople(l, i, web.Options{Version: i.cfg.Version, Lineage: lineage, Password: password, Log: i.cfg.Log, Program: i.cfg.Program, Dashboards: dashboard.NewSet(i.cfg.Program)})
	i.addresses = append([]web.Address{{Name: "web", Addr: "http://" + l.Addr().String()}}, i.addresses...)
	socket, err := web.ListenSocket(i.cfg.Dir)
	if err != nil {
		return err
	}
	i.web.ServeCommands(socket, i)
	return nil
}

// Addresses says what listens where.
func (i *Instance) Addresses() []web.Address { return i.addresses }

// Close stops all parts, in reverse.
func (i *Instance) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var errs []error
	if i.web != nil {
		errs = append(errs, i.web.Close(ctx))
	}
	if i.server != nil {
		errs = append(errs, i.server.Close())
	}
	if i.ingest != nil {
		errs = append(errs, i.ingest.Close())
	}
	if i.stream != nil {
		errs = append(errs, i.stream.Close())
	}
	if i.lake != nil {
		errs = append(errs, i.lake.Close())
	}
	if i.registryAPI != nil {
		errs = append(errs, i.registryAPI.Close())
	}
	if i.registry != nil {
		i.registry.Close()
	}
	if i.log != nil {
		errs = append(errs, i.log.Close())
	}
	if i.unlock != nil {
		i.unlock()
	}
	return errors.Join(errs...)
}
