package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"lockstep/project"
)

// recordsFile holds the step records: a checksum and a JSON object per line.
// Only whole, synced lines were ever told of. It begins with a base: the state
// before its first step.
const recordsFile = "steps.log"

const recordsFormat = 1

// stepRecord is a step as it is written. Offsets are those that changed.
type stepRecord struct {
	Step int64                        `json:"step"`
	End  Offsets                      `json:"end,omitempty"`
	Dead map[string]map[int32][]int64 `json:"dead,omitempty"` // ascending
	DLQ  map[string]int64             `json:"dlq,omitempty"`  // next offset of dlq.<topic> after the step
}

// fact is what steps rely on and the log or the registry might tell otherwise
// later. It is written before the first step that does.
type fact struct {
	Topic  string          `json:"topic,omitempty"`
	ID     string          `json:"id,omitempty"`     // the topic's
	From   map[int32]int64 `json:"from,omitempty"`   // where the topic partitions began when they were first seen
	Schema int             `json:"schema,omitempty"` // its id in the registry
	Avro   string          `json:"avro,omitempty"`
	Column string          `json:"column,omitempty"` // of the topic's table, beyond the project's
	Type   string          `json:"type,omitempty"`
}

type line struct {
	Format int         `json:"format,omitempty"`
	Base   *stepRecord `json:"base,omitempty"` // whole offsets
	Fact   *fact       `json:"fact,omitempty"`
	Step   *stepRecord `json:"record,omitempty"`
}

// records are the step records on disk and in memory. Safe for concurrent use.
type records struct {
	dir  string
	lock *os.File
	hook func(string)

	mu      sync.Mutex
	file    *os.File
	size    int64
	base    stepRecord
	steps   []stepRecord // base.Step+1, ...
	end     Offsets      // of the last
	dlq     map[string]int64
	facts   []fact
	topics  map[string]fact
	schemas map[int]string
	columns map[string][]project.Column
	pruned  int // steps dropped from memory since the file was written
}

// openRecords reads the step records in dir. found is false when there are
// none, and rebase must be called.
func openRecords(dir string, hook func(string)) (r *records, found bool, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, false, fmt.Errorf("cannot make the state folder: %w", err)
	}
	r = &records{dir: dir, hook: hook}
	if err := r.acquire(); err != nil {
		return nil, false, err
	}
	r.reset(stepRecord{})
	path := filepath.Join(dir, recordsFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	if err == nil {
		err = r.load(path, text)
	}
	if err != nil {
		r.close()
		return nil, false, fmt.Errorf("cannot read step records: %w", err)
	}
	return r, r.file != nil, nil
}

// acquire keeps a second process from the records.
func (r *records) acquire() error {
	f, err := os.OpenFile(filepath.Join(r.dir, "steps.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("cannot lock step records: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return fmt.Errorf("cannot lock step records in %s: another process ingests with them; stop it first: %w", r.dir, err)
	}
	r.lock = f
	return nil
}

func (r *records) reset(base stepRecord) {
	r.base = base
	r.steps, r.facts = nil, nil
	r.end, r.dlq = cloneOffsets(base.End), map[string]int64{}
	for topic, next := range base.DLQ {
		r.dlq[topic] = next
	}
	r.topics, r.schemas, r.columns = map[string]fact{}, map[int]string{}, map[string][]project.Column{}
}

// load reads the file and cuts off a torn last line.
func (r *records) load(path string, text []byte) error {
	whole := 0
	for number := 1; whole < len(text); number++ {
		n := bytes.IndexByte(text[whole:], '\n') + 1
		var l line
		err := errors.New("the line has no end")
		if n > 0 {
			l, err = decodeLine(text[whole : whole+n-1])
		}
		if err == nil {
			err = r.take(l, number)
		} else if n == 0 || whole+n == len(text) {
			break // the crash came before the line was synced: nobody was told
		}
		if err != nil {
			return fmt.Errorf("%s, line %d: %w; the file was damaged: restore it, or remove it to go on with the steps that bronze knows (the stream's state is then built anew)", path, number, err)
		}
		whole += n
	}
	if whole == 0 {
		return nil // it was torn at its first line
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(int64(whole)), f.Sync()); err != nil {
		f.Close()
		return err
	}
	r.file, r.size = f, int64(whole)
	return nil
}

func decodeLine(text []byte) (line, error) {
	var l line
	sum, body, ok := bytes.Cut(text, []byte(" "))
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if !ok || err != nil || uint32(want) != crc32.Checksum(body, castagnoli) {
		return l, errors.New("the checksum is wrong")
	}
	return l, json.Unmarshal(body, &l)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encodeLine(l line) []byte {
	body, err := json.Marshal(l)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(body, castagnoli), body)
}

func (r *records) take(l line, number int) error {
	switch {
	case number == 1:
		if l.Format != recordsFormat || l.Base == nil {
			return fmt.Errorf("format %d is not this version's, %d", l.Format, recordsFormat)
		}
		r.reset(*l.Base)
	case l.Fact != nil:
		return r.takeFact(*l.Fact)
	case l.Step != nil:
		if want := r.base.Step + int64(len(r.steps)) + 1; l.Step.Step != want {
			return fmt.Errorf("step %d where %d should be", l.Step.Step, want)
		}
		r.takeStep(*l.Step)
	}
	return nil
}

func (r *records) takeFact(f fact) error {
	r.facts = append(r.facts, f)
	switch {
	case f.Schema != 0:
		r.schemas[f.Schema] = f.Avro
	case f.Column != "":
		t, err := project.ParseType(f.Type)
		if err != nil {
			return err
		}
		r.columns[f.Topic] = append(r.columns[f.Topic], extraColumn(f.Column, t))
	default:
		r.topics[f.Topic] = f
	}
	return nil
}

func (r *records) takeStep(s stepRecord) {
	r.steps = append(r.steps, s)
	advance(r.end, s.End)
	for topic, next := range s.DLQ {
		r.dlq[topic] = next
	}
}

// append writes facts and, unless nil, a step, and returns when they are on
// disk. After an error the file is as before; it can be tried again.
func (r *records) append(facts []fact, s *stepRecord) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var text []byte
	for i := range facts {
		text = append(text, encodeLine(line{Fact: &facts[i]})...)
	}
	if s != nil {
		text = append(text, encodeLine(line{Step: s})...)
	}
	if _, err := r.file.WriteAt(text, r.size); err != nil {
		return fmt.Errorf("cannot write the step record: %w", errors.Join(err, r.file.Truncate(r.size)))
	}
	r.hook("ingest.record.written")
	if err := r.file.Sync(); err != nil {
		return fmt.Errorf("cannot sync the step record: %w", errors.Join(err, r.file.Truncate(r.size)))
	}
	r.size += int64(len(text))
	for _, f := range facts {
		if err := r.takeFact(f); err != nil {
			return err
		}
	}
	if s != nil {
		r.takeStep(*s)
	}
	return nil
}

// rebase starts the records anew after a step whose end is known otherwise.
// Facts stay.
func (r *records) rebase(step int64, end Offsets) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	facts := r.facts
	r.reset(stepRecord{Step: step, End: end})
	for _, f := range facts {
		if err := r.takeFact(f); err != nil {
			return err
		}
	}
	return r.rewrite()
}

// rewrite replaces the file by what memory holds.
func (r *records) rewrite() error {
	text := encodeLine(line{Format: recordsFormat, Base: &r.base})
	for i := range r.facts {
		text = append(text, encodeLine(line{Fact: &r.facts[i]})...)
	}
	for i := range r.steps {
		text = append(text, encodeLine(line{Step: &r.steps[i]})...)
	}
	path := filepath.Join(r.dir, recordsFile)
	f, err := writeSynced(path+".new", text)
	if err == nil {
		err = errors.Join(os.Rename(path+".new", path), syncDir(r.dir))
	}
	if err != nil {
		if f != nil {
			f.Close()
		}
		return fmt.Errorf("cannot write step records: %w", err)
	}
	if r.file != nil {
		r.file.Close()
	}
	r.file, r.size, r.pruned = f, int64(len(text)), 0
	return nil
}

func writeSynced(path string, text []byte) (*os.File, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(text); err != nil {
		f.Close()
		return nil, err
	}
	return f, f.Sync()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// first and last are the steps whose ends are known; first's own rows are not
// (it is the base).
func (r *records) first() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.base.Step
}

func (r *records) last() (int64, Offsets) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.base.Step + int64(len(r.steps)), cloneOffsets(r.end)
}

// next is the record of a step; nil when it is not recorded.
func (r *records) step(n int64) *stepRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := n - r.base.Step - 1; i >= 0 && i < int64(len(r.steps)) {
		s := r.steps[i]
		return &s
	}
	return nil
}

// endOf is the whole end of a step.
func (r *records) endOf(n int64) (Offsets, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.base.Step + int64(len(r.steps))
	if n < r.base.Step || n > last {
		return nil, fmt.Errorf("cannot tell the end of step %d: the records hold steps %d to %d", n, r.base.Step, last)
	}
	if n == last {
		return cloneOffsets(r.end), nil
	}
	end := cloneOffsets(r.base.End)
	for _, s := range r.steps[:n-r.base.Step] {
		advance(end, s.End)
	}
	return end, nil
}

// covered is the greatest step whose end have covers, and base's if none.
func (r *records) covered(have Offsets) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.base.Step
	for _, s := range r.steps {
		if !covers(have, s.End) {
			break
		}
		n = s.Step
	}
	return n
}

// dead are the offsets judged dead in a range of a topic partition.
func (r *records) dead(topic string, partition int32, from, to int64) map[int64]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	dead := map[int64]bool{}
	for _, s := range r.steps {
		for _, o := range s.Dead[topic][partition] {
			if o >= from && o < to {
				dead[o] = true
			}
		}
	}
	return dead
}

// prune forgets the steps before one, and shortens the file when much of it
// is forgotten.
func (r *records) prune(before int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(before-1-r.base.Step, int64(len(r.steps)))
	if n <= 0 {
		return nil
	}
	base := stepRecord{Step: r.base.Step + n, End: cloneOffsets(r.base.End), DLQ: map[string]int64{}}
	for topic, next := range r.base.DLQ {
		base.DLQ[topic] = next
	}
	for _, s := range r.steps[:n] {
		if base.End == nil {
			base.End = Offsets{}
		}
		advance(base.End, s.End)
		for topic, next := range s.DLQ {
			base.DLQ[topic] = next
		}
	}
	r.base, r.pruned = base, r.pruned+int(n)
	r.steps = append([]stepRecord(nil), r.steps[n:]...)
	if r.pruned < 1000 || r.pruned < len(r.steps) {
		return nil
	}
	return r.rewrite()
}

func (r *records) close() error {
	var err error
	if r.file != nil {
		err = r.file.Close()
	}
	if r.lock != nil {
		err = errors.Join(err, r.lock.Close())
	}
	return err
}

// topic, schema and extras are what was noted of a topic, of a schema id and of
// a table's columns beyond the project's.
func (r *records) topic(name string) (fact, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, ok := r.topics[name]
	return f, ok
}

func (r *records) schema(id int) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.schemas[id]
	return s, ok
}

func (r *records) extras(topic string) []project.Column {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]project.Column(nil), r.columns[topic]...)
}

// letters is the next offset of dlq.<topic> after the last step.
func (r *records) letters(topic string) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dlq[topic]
}
