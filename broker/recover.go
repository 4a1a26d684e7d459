package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// cleanFile marks a directory that was closed in order.
const cleanFile = "CLEAN"

// recoverDir checks the data directory before kfake opens it, and after a crash
// writes what kfake saves only on Close. A damaged log is refused and left as
// it is.
func recoverDir(dir string, log *slog.Logger) error {
	topics, err := readTopics(dir)
	if err != nil || topics == nil {
		return err
	}
	clean := fileExists(filepath.Join(dir, cleanFile))
	if err := setOrphansAside(dir, topics, log); err != nil {
		return err
	}
	windows := make(map[windowKey]*window)
	for _, t := range topics {
		for p := range t.Partitions {
			part := partition{topic: t.Name, number: int32(p), dir: partitionDir(dir, t.Name, p), windows: windows}
			if err := part.recover(clean, log); err != nil {
				return err
			}
		}
	}
	if !clean {
		if err := writeWindows(dir, windows); err != nil {
			return fmt.Errorf("cannot write the producers' state of the log in %s: %w", dir, err)
		}
	}
	err = os.Remove(filepath.Join(dir, cleanFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot write to the log's directory %s: %w", dir, err)
	}
	return nil
}

// markClean says that kfake saved everything.
func markClean(dir string) error {
	return writeFile(filepath.Join(dir, cleanFile), []byte("closed "+time.Now().UTC().Format(time.RFC3339)+"\n"))
}

type topicEntry struct {
	Name       string `json:"name"`
	Partitions int    `json:"partitions"`
}

// readTopics reads kfake's list of topics. Nil: the directory holds no log yet.
func readTopics(dir string) ([]topicEntry, error) {
	hasData := fileExists(filepath.Join(dir, "partitions"))
	for _, name := range []string{"meta.json", "topics.json"} {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		switch {
		case errors.Is(err, os.ErrNotExist) && hasData:
			// kfake would start an empty log over the data.
			return nil, damaged(dir, fmt.Errorf("%s is missing", name))
		case errors.Is(err, os.ErrNotExist):
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("cannot read the log in %s: %w", dir, err)
		}
		if name == "meta.json" {
			if !json.Valid(raw) {
				return nil, damaged(dir, fmt.Errorf("%s is not JSON", name))
			}
			continue
		}
		var list struct {
			Topics []topicEntry `json:"topics"`
		}
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, damaged(dir, fmt.Errorf("%s: %w", name, err))
		}
		if list.Topics == nil {
			list.Topics = []topicEntry{}
		}
		return list.Topics, nil
	}
	return nil, nil
}

func damaged(place string, err error) error {
	return fmt.Errorf("cannot open the log: %s is damaged: %w: restore it from a copy; or move the log's directory away, start with an empty log and replay", place, err)
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func partitionDir(dir, topic string, partition int) string {
	return filepath.Join(dir, "partitions", url.PathEscape(topic)+"-"+strconv.Itoa(partition))
}

// setOrphansAside moves away the data of topics that are no more: a topic made
// again under the name would begin with the old records. It deletes nothing.
func setOrphansAside(dir string, topics []topicEntry, log *slog.Logger) error {
	known := make(map[string]bool)
	for _, t := range topics {
		for p := range t.Partitions {
			known[filepath.Base(partitionDir(dir, t.Name, p))] = true
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, "partitions"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot read the log in %s: %w", dir, err)
	}
	for _, e := range entries {
		if known[e.Name()] {
			continue
		}
		aside := filepath.Join(dir, "orphans")
		if err := os.MkdirAll(aside, 0o755); err != nil {
			return fmt.Errorf("cannot write to the log's directory %s: %w", dir, err)
		}
		to := filepath.Join(aside, e.Name()+"."+strconv.FormatInt(time.Now().UnixNano(), 10))
		if err := os.Rename(filepath.Join(dir, "partitions", e.Name()), to); err != nil {
			return fmt.Errorf("cannot move the data of a deleted topic aside: %w", err)
		}
		log.Warn("moved the data of a deleted topic aside", "from", e.Name(), "to", to)
	}
	return nil
}

// partition is one topic partition on the disk and what its segments say.
type partition struct {
	topic   string
	number  int32
	dir     string
	windows map[windowKey]*window

	segments      []segmentSnapshot
	batches       int
	first         batchHeader
	next          int64 // offset after the last batch
	epoch         int32
	maxTimestamp  int64
	transactional bool
}

func (p *partition) recover(clean bool, log *slog.Logger) error {
	bases, err := segmentBases(p.dir)
	if err != nil {
		return fmt.Errorf("cannot read the log's topic %s, partition %d: %w", p.topic, p.number, err)
	}
	for i, base := range bases {
		if err := p.scan(base, i == len(bases)-1, log); err != nil {
			return err
		}
	}
	// kfake replays transactions itself, with the batches in memory.
	if clean || p.transactional || p.batches == 0 {
		return nil
	}
	return p.writeSnapshot()
}

// segmentBases are the first offsets of the segments, in order.
func segmentBases(dir string) ([]int64, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var bases []int64
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".dat"); ok {
			if base, err := strconv.ParseInt(name, 10, 64); err == nil {
				bases = append(bases, base)
			}
		}
	}
	slices.Sort(bases)
	return bases, nil
}

func (p *partition) scan(base int64, last bool, log *slog.Logger) error {
	path := filepath.Join(p.dir, strconv.FormatInt(base, 10)+".dat")
	seg := segmentSnapshot{BaseOffset: base}
	end, err := scanSegment(path, func(h batchHeader) error {
		if p.batches > 0 && h.firstOffset != p.next {
			return damaged(path, fmt.Errorf("topic %s, partition %d: offsets %d to %d are missing", p.topic, p.number, p.next, h.firstOffset-1))
		}
		p.add(h, &seg)
		return nil
	})
	if err != nil {
		return err
	}
	if end.fault != nil {
		if err := p.judgeRest(path, end, last); err != nil {
			return err
		}
		log.Warn("cut the unfinished last write of the log", "topic", p.topic, "partition", p.number, "bytes", end.size-end.valid)
		if err := os.Truncate(path, end.valid); err != nil {
			return fmt.Errorf("cannot cut the unfinished last write of %s: %w", path, err)
		}
	}
	seg.Size = end.valid
	p.segments = append(p.segments, seg)
	return nil
}

// judgeRest tells a write that a crash cut, which no client was told of, from
// damage to what clients were told is safe.
func (p *partition) judgeRest(path string, end segmentEnd, last bool) error {
	what := fmt.Errorf("topic %s, partition %d, offset %d at byte %d: %w", p.topic, p.number, p.next, end.valid, end.fault)
	if !last {
		return damaged(path, what)
	}
	at, found, err := batchAfter(path, end.valid, p.next)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", path, err)
	}
	if found {
		return damaged(path, fmt.Errorf("%w, and whole batches go on at byte %d", what, at))
	}
	return nil
}

func (p *partition) add(h batchHeader, seg *segmentSnapshot) {
	if p.batches == 0 {
		p.first = h
		p.maxTimestamp = h.maxTimestamp
	}
	if seg.batches == 0 {
		seg.MinEpoch = h.epoch
	}
	seg.batches++
	seg.MinEpoch = min(seg.MinEpoch, h.epoch)
	seg.MaxEpoch = max(seg.MaxEpoch, h.epoch)
	p.batches++
	p.next = h.lastOffset + 1
	p.epoch = h.epoch
	p.maxTimestamp = max(p.maxTimestamp, h.maxTimestamp)
	p.transactional = p.transactional || h.transactional || h.control
	if h.producerID >= 0 && !h.control {
		key := windowKey{h.producerID, p.topic, p.number}
		if p.windows[key] == nil {
			p.windows[key] = &window{}
		}
		p.windows[key].push(h)
	}
}
