package ingest

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// readRange reads committed records of topics between two sets of offsets, in
// order within a topic partition. Topics that do not exist have none. to nil:
// up to what is committed now.
func readRange(ctx context.Context, cfg *Config, topics []string, from, to Offsets, f func(*kgo.Record)) error {
	cl, err := cfg.client(kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	if err != nil {
		return fmt.Errorf("cannot read the log: %w", err)
	}
	defer cl.CloseAllowingRebalance()
	if len(topics) == 0 {
		return nil
	}
	starts, left, err := clip(ctx, kadm.NewClient(cl), topics, from, to)
	if err != nil {
		return err
	}
	cl.AddConsumePartitions(starts)
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return err
		}
		fetches.EachError(func(topic string, p int32, e error) {
			err = errors.Join(err, fmt.Errorf("cannot read topic %s, partition %d: %w", topic, p, e))
		})
		if err != nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			end, open := left[place{r.Topic, r.Partition}]
			if !open {
				return
			}
			if r.Offset < end && !r.Attrs.IsControl() {
				f(r)
			}
			if r.Offset >= end-1 {
				delete(left, place{r.Topic, r.Partition})
			}
		})
	}
	return nil
}

// place is a topic partition.
type place struct {
	topic     string
	partition int32
}

// clip gives where to start and, per topic partition that has something to
// read, where to end.
func clip(ctx context.Context, admin *kadm.Client, topics []string, from, to Offsets) (map[string]map[int32]kgo.Offset, map[place]int64, error) {
	ends, err := admin.ListCommittedOffsets(ctx, topics...)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the ends of topics: %w", err)
	}
	begins, err := admin.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the starts of topics: %w", err)
	}
	starts, left := map[string]map[int32]kgo.Offset{}, map[place]int64{}
	var errs error
	ends.Each(func(e kadm.ListedOffset) {
		if e.Err != nil {
			if !errors.Is(e.Err, kerr.UnknownTopicOrPartition) {
				errs = errors.Join(errs, fmt.Errorf("cannot read topic %s, partition %d: %w", e.Topic, e.Partition, e.Err))
			}
			return
		}
		start, end := from[e.Topic][e.Partition], e.Offset
		b, _ := begins.Lookup(e.Topic, e.Partition)
		if to != nil {
			end = to[e.Topic][e.Partition]
			if start < end && (b.Offset > start || e.Offset < end) {
				errs = errors.Join(errs, fmt.Errorf("cannot read topic %s, partition %d: offsets %d to %d are asked for, the log holds %d to %d", e.Topic, e.Partition, start, end-1, b.Offset, e.Offset-1))
			}
		}
		if start = max(start, b.Offset); start < end {
			if starts[e.Topic] == nil {
				starts[e.Topic] = map[int32]kgo.Offset{}
			}
			starts[e.Topic][e.Partition] = kgo.NewOffset().At(start)
			left[place{e.Topic, e.Partition}] = end
		}
	})
	return starts, left, errs
}
