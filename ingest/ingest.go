package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"lockstep/project"
)

// ErrStepsLost says that a consumer's last step cannot be continued: the step
// records were lost or are of another history, or the log does not hold the
// records of the steps after it any more. Its state must be built anew, from
// bronze as of Committed.
var ErrStepsLost = errors.New("the steps after the consumer's last one cannot be formed again")

// Ingest reads the topics of a project. Open it, then Run it.
type Ingest struct {
	cfg     Config
	log     *slog.Logger
	records *records
	topics  map[string]*topic
	order   []string // topic names
	admin   *kgo.Client
	bronze  *bronze
	metrics *meters
	look    chan struct{} // look at the topics now

	running sync.Mutex // held by Run

	// Of the running Run:
	judge   *judge
	letters *letterWriter

	mu        sync.Mutex
	gatherer  *gatherer // nil: not running
	published int64     // last step that was handed on and taken
	handed    Offsets   // its end
	ends      Offsets   // of the log, when it was looked at last
}

// Open makes topics that are missing, and finds where an earlier run came to.
func Open(ctx context.Context, cfg Config) (*Ingest, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	i := &Ingest{cfg: cfg, log: cfg.Log.With("part", "ingest"), topics: map[string]*topic{}, look: make(chan struct{}, 1), ends: Offsets{}}
	if err := i.open(ctx); err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

func (i *Ingest) open(ctx context.Context) error {
	var found bool
	var err error
	if i.records, found, err = openRecords(i.cfg.Dir, i.cfg.Hook); err != nil {
		return err
	}
	for _, s := range i.cfg.Project.Sources {
		if err := i.addTopic(s); err != nil {
			return err
		}
	}
	sort.Strings(i.order)
	i.metrics = newMeters(i.order)
	if i.admin, err = i.cfg.client(); err != nil {
		return fmt.Errorf("cannot use the log: %w", err)
	}
	if i.bronze, err = i.openBronze(ctx); err != nil {
		return err
	}
	if err := i.number(found); err != nil {
		return err
	}
	if err := i.takenColumns(ctx); err != nil {
		return err
	}
	if err := i.ensureTopics(ctx); err != nil {
		return err
	}
	if err := i.checkTopics(ctx); err != nil {
		return err
	}
	return i.bronze.begin(ctx)
}

func (i *Ingest) addTopic(s *project.Source) error {
	target, err := newTarget(s)
	if err != nil {
		return err
	}
	target.columns = append(target.columns, i.extrasOf(s)...)
	i.topics[s.Topic] = &topic{name: s.Topic, table: s.Table(), source: s, target: target, decoders: map[int]*compiled{}, taken: map[string]project.Column{}, state: Running}
	i.order = append(i.order, s.Topic)
	return nil
}

// extrasOf are the columns that records brought, less those that the project
// has by now.
func (i *Ingest) extrasOf(s *project.Source) []project.Column {
	own := map[string]bool{}
	for _, c := range s.Columns() {
		own[c.Name] = true
	}
	var extras []project.Column
	for _, c := range i.records.extras(s.Topic) {
		if !own[c.Name] {
			own[c.Name] = true
			extras = append(extras, c)
		}
	}
	return extras
}

// takenColumns notes the columns of tables that neither the project nor the
// records know: of a project before, or from before the records were lost.
func (i *Ingest) takenColumns(ctx context.Context) error {
	for _, t := range i.topics {
		scan, err := i.cfg.Lake.Scan(ctx, t.table, 0)
		if err != nil {
			return fmt.Errorf("cannot read table %s: %w", t.table, err)
		}
		for _, c := range scan.Columns {
			t.taken[c.Name] = c
		}
	}
	return nil
}

// number makes sure that steps go on after all that was recorded, and above
// every number that bronze or the caller knows.
func (i *Ingest) number(found bool) error {
	held, bronzeStep := i.bronze.positions()
	last, end := i.records.last()
	known := max(bronzeStep, i.cfg.MinStep)
	if found && known <= last && covers(end, held) {
		if base, err := i.records.endOf(i.records.first()); err != nil || covers(i.withOthers(held, base), base) {
			return err
		}
		return fmt.Errorf("cannot go on: the bronze tables hold less than step %d, and the records of the steps before it were dropped: were tables removed or rolled back? Restore the lake, or begin anew with `lockstep reset`", i.records.first())
	}
	if !found && known == 0 {
		return i.records.rebase(0, Offsets{})
	}
	if found {
		i.log.Warn("the step records are older than bronze or the stream's state; numbering goes on above them", "recorded", last, "known", known)
	} else {
		i.log.Warn("the step records are missing; numbering goes on above the steps that are known", "known", known)
	}
	advance(end, held)
	return i.records.rebase(max(last, known)+1, end)
}

// withOthers adds what the project's tables do not have to cover: other
// topics, and where topics began.
func (i *Ingest) withOthers(held, end Offsets) Offsets {
	held = cloneOffsets(held)
	for name := range end {
		if i.topics[name] == nil {
			held[name] = end[name]
		} else if f, ok := i.records.topic(name); ok && len(held[name]) == 0 {
			held[name] = f.From
		}
	}
	return held
}

// Close releases the state folder. Run must have returned.
func (i *Ingest) Close() error {
	i.running.Lock()
	defer i.running.Unlock()
	if i.admin != nil {
		i.admin.CloseAllowingRebalance()
		i.admin = nil
	}
	if i.records != nil {
		err := i.records.close()
		i.records = nil
		return err
	}
	return nil
}

// stopTime is how long bronze may take for its last commit when Run ends.
const stopTime = 10 * time.Second

// Run ingests until ctx ends, and then returns nil with all that was accepted
// committed, if that can be done within seconds. The consumer may be nil; else
// it gets every step after its Last. Errors wrap ErrStepsLost and ErrFenced
// where that is the cause; another one is the consumer's.
func (i *Ingest) Run(ctx context.Context, speed Consumer) error {
	if !i.running.TryLock() {
		return errors.New("cannot ingest: it runs already")
	}
	defer i.running.Unlock()
	if i.records == nil {
		return errors.New("cannot ingest: it is closed")
	}
	if err := i.bronze.begin(ctx); err != nil {
		return err
	}
	from, err := i.startAt(speed)
	if err != nil {
		return err
	}
	err = i.run(ctx, from, speed)
	if ctx.Err() != nil && (err == nil || errors.Is(err, ctx.Err())) {
		return nil
	}
	return err
}

// Continues says whether Run can go on with a consumer whose last step is
// given; if not, the error wraps ErrStepsLost and says why. It asks nobody, and
// can be called before Run to build the consumer's state anew in time.
func (i *Ingest) Continues(last int64) error {
	first := i.records.first()
	recorded, end := i.records.last()
	if last < first || last > recorded {
		return fmt.Errorf("%w: it holds step %d, the records hold %d to %d", ErrStepsLost, last, first, recorded)
	}
	have, err := i.records.endOf(last)
	if err != nil {
		return err
	}
	for name, t := range i.topics {
		if state, message := t.status(); state == Stopped && !covers(have, Offsets{name: end[name]}) {
			return fmt.Errorf("%w: steps after %d need topic %s, which stopped: %s", ErrStepsLost, last, name, message)
		}
	}
	return nil
}

// startAt is the step after which steps are formed again.
func (i *Ingest) startAt(speed Consumer) (int64, error) {
	from := i.bronze.committed.Step
	if speed == nil {
		return from, nil
	}
	have := speed.Last()
	if err := i.Continues(have); err != nil {
		return 0, err
	}
	return min(from, have), nil
}

func (i *Ingest) run(parent context.Context, from int64, speed Consumer) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	at, err := i.records.endOf(from)
	if err != nil {
		return err
	}
	i.letters = i.newLetterWriter()
	defer i.letters.close()
	if err := i.letters.open(ctx); err != nil {
		return err
	}
	var g *gatherer
	i.judge = &judge{maxRecord: i.cfg.MaxRecordBytes, log: i.log,
		schemas: newSchemas(ctx, i.cfg.Registry, i.records.schema, func() { g.wake() })}
	if g, err = i.newGatherer(from, at); err != nil {
		return err
	}
	i.attach(g, from, at)
	defer i.attach(nil, 0, nil)

	var parts sync.WaitGroup
	background := func(f func(context.Context) error) {
		parts.Go(func() {
			if err := f(ctx); err != nil {
				cancel(err)
			}
		})
	}
	bronzeEnded := i.startBronze(cancel)
	background(g.run)
	background(i.watch)
	background(i.register)
	err = i.steps(ctx, g, speed)
	cancel(err)
	parts.Wait()
	i.judge.schemas.running.Wait()
	bronzeEnded()
	if parent.Err() == nil {
		err = context.Cause(ctx)
	}
	return err
}

// startBronze lets bronze commit in the background; the function that it
// gives lets it end.
func (i *Ingest) startBronze(cancel context.CancelCauseFunc) (end func()) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := i.bronze.run(ctx); err != nil && ctx.Err() == nil {
			cancel(err)
		}
	}()
	return func() {
		defer stop()
		i.bronze.close()
		select {
		case <-done:
		case <-time.After(stopTime):
			i.log.Warn("bronze could not be committed in time; the next run goes on from the log")
			stop()
			<-done
		}
	}
}

func (i *Ingest) attach(g *gatherer, published int64, end Offsets) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.gatherer = g
	if g != nil {
		i.published, i.handed = published, end
	}
}

// steps takes drafts and hands them on as steps.
func (i *Ingest) steps(ctx context.Context, g *gatherer, speed Consumer) error {
	for {
		begun := time.Now()
		d, number, err := g.take(ctx)
		if err != nil {
			return err
		}
		s, err := i.seal(ctx, d, number)
		if err != nil {
			return err
		}
		if number > i.bronze.queued {
			if err := i.bronze.enqueue(ctx, s); err != nil {
				return err
			}
		}
		i.cfg.Hook("ingest.queued")
		if speed != nil && number > speed.Last() {
			if err := speed.Apply(ctx, s); err != nil {
				return fmt.Errorf("cannot apply step %d: %w", number, err)
			}
		}
		i.cfg.Hook("ingest.applied")
		i.publish(s)
		if wait := i.cfg.StepDelay - time.Since(begun); wait > 0 && !s.Again && s.Accepted < int64(i.cfg.StepRows)/2 {
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
		}
	}
}

func (i *Ingest) publish(s *Step) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.published, i.handed = s.Number, s.End
	i.metrics.stepped(s)
}

// seal makes a draft a step: dead letters first, then the record.
func (i *Ingest) seal(ctx context.Context, d *draft, number int64) (*Step, error) {
	if d.again != nil {
		return d.step(number, d.end), nil
	}
	i.cfg.Hook("ingest.judged")
	next, err := i.letters.write(ctx, d.dead)
	if err != nil {
		return nil, err
	}
	i.cfg.Hook("ingest.letters")
	rec := d.record(number)
	rec.DLQ = next
	if err := i.write(ctx, i.newFacts(d), rec); err != nil {
		return nil, err
	}
	i.letters.forget(d.dead)
	i.cfg.Hook("ingest.recorded")
	_, end := i.records.last()
	s := d.step(number, end)
	i.metrics.judged(d)
	return s, nil
}

// newFacts are those of a draft, with the schemas that were used first in it.
func (i *Ingest) newFacts(d *draft) []fact {
	facts := d.facts
	for id, text := range d.schemas {
		if _, ok := i.records.schema(id); !ok {
			facts = append(facts, fact{Schema: id, Avro: text})
		}
	}
	return facts
}

// write records a step; it tries until ctx ends, as a full disk gets room.
func (i *Ingest) write(ctx context.Context, facts []fact, rec *stepRecord) error {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := i.records.append(facts, rec)
		if err == nil {
			return nil
		}
		i.log.Error("cannot record a step; trying again", "step", rec.Step, "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// Committed is what bronze holds whole. It may be called at any time.
func (i *Ingest) Committed() Committed { return i.bronze.snapshot() }

// CommitNow brings bronze up to the step that is handed on now.
func (i *Ingest) CommitNow(ctx context.Context) (Committed, error) { return i.bronze.commitNow(ctx) }

// StepEnd gives the recorded end offsets of a step.
func (i *Ingest) StepEnd(n int64) (Offsets, error) { return i.records.endOf(n) }

// Prune drops the records of steps before one, of which bronze and the
// consumer need none: StepEnd and Tail know them no more.
func (i *Ingest) Prune(before int64) {
	i.mu.Lock()
	published := i.published
	i.mu.Unlock()
	before = min(before, published, i.bronze.snapshot().Step)
	if err := i.records.prune(before); err != nil {
		i.log.Warn("cannot shorten the step records", "error", err)
	}
}
