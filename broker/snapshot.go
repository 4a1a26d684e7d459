package broker

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"time"
)

// The types below are kfake's own files, version 1, as the pinned version of
// kfake reads and writes them (its persist.go). A test opens a log by them.
const persistVersion = 1

type partitionSnapshot struct {
	Version          int               `json:"version"`
	HighWatermark    int64             `json:"high_watermark"`
	LastStableOffset int64             `json:"last_stable_offset"`
	LogStartOffset   int64             `json:"log_start_offset"`
	Epoch            int32             `json:"epoch"`
	LeaderNode       int32             `json:"leader_node,omitempty"`
	MaxTimestamp     int64             `json:"max_timestamp"`
	CreatedAt        time.Time         `json:"created_at"`
	Segments         []segmentSnapshot `json:"segments"`
}

type segmentSnapshot struct {
	BaseOffset int64 `json:"base_offset"`
	Size       int64 `json:"size"`
	MinEpoch   int32 `json:"min_epoch,omitempty"`
	MaxEpoch   int32 `json:"max_epoch,omitempty"`
	batches    int
}

// writeSnapshot lets kfake load the topic partition a segment at a time.
// Without it kfake would hold all its batches in memory.
func (p *partition) writeSnapshot() error {
	path := filepath.Join(p.dir, "snapshot.json")
	s := partitionSnapshot{
		Version:          persistVersion,
		HighWatermark:    p.next,
		LastStableOffset: p.next,
		LogStartOffset:   p.first.firstOffset,
		Epoch:            p.epoch,
		MaxTimestamp:     p.maxTimestamp,
		CreatedAt:        time.UnixMilli(p.first.firstTimestamp),
		Segments:         p.segments,
	}
	var old partitionSnapshot
	if raw, err := os.ReadFile(path); err == nil && json.Unmarshal(raw, &old) == nil {
		// Records that were deleted before the last Close stay deleted.
		if old.LogStartOffset > s.LogStartOffset && old.LogStartOffset <= s.HighWatermark {
			s.LogStartOffset = old.LogStartOffset
		}
		s.CreatedAt = old.CreatedAt
	}
	return writeJSON(path, s)
}

// window is what kfake remembers of a producer in a topic partition: its last
// batches, by which a repeated one is known.
type window struct {
	entries [5]windowEntry
	count   uint8
	at      uint8
	epoch   int16
	seen    bool
	nextSeq int32
}

type windowKey struct {
	producerID int64
	topic      string
	partition  int32
}

type windowEntry struct {
	FirstSeq int32 `json:"first_seq"`
	NextSeq  int32 `json:"next_seq"`
	Offset   int64 `json:"offset"`
}

// push repeats what kfake did when it took the batch.
func (w *window) push(h batchHeader) {
	next := int32((int64(h.firstSequence) + int64(h.records)) % math.MaxInt32)
	if !w.seen || h.producerEpoch != w.epoch {
		*w = window{seen: true, epoch: h.producerEpoch}
	}
	w.nextSeq = next
	w.entries[w.at] = windowEntry{FirstSeq: h.firstSequence, NextSeq: next, Offset: h.firstOffset}
	w.at = (w.at + 1) % 5
	w.count = min(w.count+1, 5)
}

type windowFile struct {
	Version int           `json:"version"`
	Windows []windowState `json:"windows"`
}

type windowState struct {
	PID     int64          `json:"pid"`
	Topic   string         `json:"topic"`
	Part    int32          `json:"partition"`
	Entries [5]windowEntry `json:"entries"`
	Count   uint8          `json:"count"`
	At      uint8          `json:"at"`
	Epoch   int16          `json:"epoch"`
	Seen    bool           `json:"seen"`
	NextSeq int32          `json:"next_seq"`
}

// writeWindows replaces kfake's sequence numbers, which are as old as the last
// Close, by those that the segments show.
func writeWindows(dir string, windows map[windowKey]*window) error {
	file := windowFile{Version: persistVersion, Windows: []windowState{}}
	for k, w := range windows {
		file.Windows = append(file.Windows, windowState{
			PID: k.producerID, Topic: k.topic, Part: k.partition,
			Entries: w.entries, Count: w.count, At: w.at, Epoch: w.epoch, Seen: w.seen, NextSeq: w.nextSeq,
		})
	}
	return writeJSON(filepath.Join(dir, "seq_windows.json"), file)
}

func writeJSON(path string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeFile(path, raw)
}

// writeFile puts the whole file there or leaves what was there.
func writeFile(path string, content []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
