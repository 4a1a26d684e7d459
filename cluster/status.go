package cluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"lockstep/lake"
	"lockstep/web"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Status implements web.Backend: what catalog and log say. Rates and times are
// those of the application that streams; `lockstep speed` has them.
func (b *Backend) Status(ctx context.Context) (*web.Status, error) {
	m, err := b.now(ctx)
	if err != nil {
		return nil, err
	}
	s := &web.Status{Project: b.program.Project.Name, State: b.config.Warehouse, Started: b.started, Ready: true, Step: m.step, Frozen: m.frozen, Manifest: m.manifestID(), Bytes: map[string]int64{}}
	newest, any, err := b.lake.NewestManifest(ctx)
	if err != nil {
		return nil, err
	}
	if any {
		s.Published, s.BatchStep = newest.Published, newest.Step
	}
	record, _, err := b.lastStep(ctx)
	if err != nil {
		return nil, err
	}
	if record != nil {
		fresh := record.Freshness().Seconds()
		s.Freshness = web.Freshness{P50: fresh, P99: fresh, Count: 1}
	}
	if err := b.topics(ctx, s, record); err != nil {
		return nil, err
	}
	if s.LastBatch, err = b.lastBatch(ctx); err != nil {
		return nil, err
	}
	b.mu.Lock()
	s.BatchNow = b.batchNow
	b.mu.Unlock()
	if last := s.LastBatch; last != nil {
		b.batchProblems(s, last)
	}
	return s, b.models(ctx, s, m)
}

func (b *Backend) batchProblems(s *web.Status, last *web.BatchReport) {
	for _, n := range last.Drift {
		s.DriftRows += n
	}
	if last.Error != "" {
		s.Problems = append(s.Problems, "the last batch run failed: "+last.Error)
	}
	if len(last.Tests) > 0 {
		s.Problems = append(s.Problems, "data tests fail: "+strings.Join(last.Tests, "; ")+": correct the model, or the test in its header")
	}
	if s.DriftRows > 0 {
		s.Problems = append(s.Problems, fmt.Sprintf("drift: the stream was not what batch run %s gave: see %s/lockstep/drift/%012d.json; what the batch published is served", last.Run, b.config.Warehouse, last.Manifest))
	}
}

func wholeNumber(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}

// topics fills in what the log and the bronze tables hold.
func (b *Backend) topics(ctx context.Context, s *web.Status, record *StepRecord) error {
	ends, err := b.logEnds(ctx)
	if err != nil {
		s.Problems = append(s.Problems, fmt.Sprintf("the log does not answer: %v: `lockstep doctor --env cluster` says more", err))
	}
	for _, src := range b.program.Project.Sources {
		t := web.TopicStatus{Topic: src.Topic}
		head, err := b.lake.Head(ctx, src.Table())
		switch {
		case errors.Is(err, lake.ErrNoTable):
		case err != nil:
			return err
		case head.Snapshot != 0:
			rows, _ := head.Property("total-records")
			files, _ := head.Property("total-data-files")
			bytes, _ := head.Property("total-files-size")
			t.BronzeRows, t.BronzeFiles = wholeNumber(rows), wholeNumber(files)
			s.Bytes["lake"] += wholeNumber(bytes)
		}
		done := map[int32]int64{}
		if record != nil {
			t.Records, t.Dead = record.Accepted[src.Topic], record.Dead[src.Topic]
			done = record.Ends[src.Topic]
		}
		for partition, o := range ends[src.Topic] {
			t.Lag += max(0, o.end-max(o.begin, done[partition]))
		}
		s.Topics = append(s.Topics, t)
	}
	return nil
}

type offsets struct{ begin, end int64 }

// logEnds gives where the log begins and ends, by topic and topic partition.
func (b *Backend) logEnds(ctx context.Context) (map[string]map[int32]offsets, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	opts, err := b.config.KafkaOptions()
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	var topics []string
	for _, src := range b.program.Project.Sources {
		topics = append(topics, src.Topic)
	}
	admin := kadm.NewClient(client)
	begin, err := admin.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, err
	}
	end, err := admin.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, err
	}
	out := map[string]map[int32]offsets{}
	end.Each(func(o kadm.ListedOffset) {
		if o.Err != nil { // a topic that is not there yet
			return
		}
		if out[o.Topic] == nil {
			out[o.Topic] = map[int32]offsets{}
		}
		first, _ := begin.Lookup(o.Topic, o.Partition)
		out[o.Topic][o.Partition] = offsets{first.Offset, o.Offset}
	})
	return out, nil
}

// models fills in the rows of each model: as they are served where this
// process stays and counts them now and then, else as the last batch left them,
// as counting takes Spark longer than people wait for a status.
func (b *Backend) models(ctx context.Context, s *web.Status, m *moment) error {
	served := map[string]counts{}
	if b.countEvery > 0 {
		var err error
		if served, err = b.rows(ctx, m); err != nil {
			s.Problems = append(s.Problems, fmt.Sprintf("the Thrift Server does not answer, how many rows are served is not known: %v", err))
		}
	} else if s.LastBatch != nil {
		for model, rows := range s.LastBatch.Rows {
			served[model] = counts{rows: rows}
		}
	}
	for _, model := range b.program.Models {
		ms := web.ModelStatus{Model: model.Name, Materialized: string(model.Materialized)}
		if c, ok := served[model.Name]; ok {
			ms.Rows, ms.OverlayRows = c.rows, c.overlay
		}
		if stored(model) {
			ms.Files = b.files(ctx, model.Name)
		}
		if s.LastBatch != nil {
			ms.BatchSeconds, ms.DriftRows = s.LastBatch.Models[model.Name], s.LastBatch.Drift[model.Name]
		}
		s.Models = append(s.Models, ms)
	}
	return nil
}

type counts struct{ rows, overlay int64 }

// rows are the counts of rows, as old as countEvery allows.
func (b *Backend) rows(ctx context.Context, m *moment) (map[string]counts, error) {
	b.mu.Lock()
	have, at := b.counts, b.counted
	b.mu.Unlock()
	if have != nil && time.Since(at) < b.countEvery {
		return have, nil
	}
	now, err := b.count(ctx, m)
	if err != nil {
		return have, err
	}
	b.mu.Lock()
	b.counts, b.counted = now, time.Now()
	b.mu.Unlock()
	return now, nil
}

// count counts the rows served of every table of a model, and those of them
// that the stream made, in one statement.
func (b *Backend) count(ctx context.Context, m *moment) (map[string]counts, error) {
	server := b.server
	server.Wait = 0
	s, err := server.Open(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var parts []string
	n := b.pinned(m)
	for _, model := range b.program.Models {
		if !stored(model) {
			continue
		}
		text, err := n.of(ctx, model.Name)
		if err != nil {
			return nil, err
		}
		parts = append(parts, fmt.Sprintf("SELECT %s AS model, 0 AS what, count(*) AS n FROM (%s)", textSQL(model.Name), text))
	}
	if m.live && m.speed != 0 {
		parts = append(parts, fmt.Sprintf("SELECT model, 1, count(*) FROM %s WHERE step > %d AND step <= %d AND NOT empty GROUP BY model", speedSQL(m.speed), m.after(), m.step))
	}
	out := map[string]counts{}
	err = s.Each(ctx, strings.Join(parts, " UNION ALL "), func(rec arrow.RecordBatch) error {
		for i := range int(rec.NumRows()) {
			name := strings.Clone(rec.Column(0).(*array.String).Value(i))
			c, n := out[name], rec.Column(2).(*array.Int64).Value(i)
			if rec.Column(1).(*array.Int32).Value(i) == 0 {
				c.rows = n
			} else {
				c.overlay = n
			}
			out[name] = c
		}
		return nil
	})
	return out, err
}
