package broker

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	spaceInterval     = 100 * time.Millisecond // a quick disk takes 64 MB in it
	retentionInterval = time.Minute
)

// runUpkeep watches the disk and applies retention until Close.
func (b *Broker) runUpkeep() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	space := time.NewTicker(spaceInterval)
	defer space.Stop()
	retention := time.NewTicker(retentionInterval)
	defer retention.Stop()
	go func() { <-b.stop; cancel() }()
	for {
		select {
		case <-b.stop:
			return
		case <-space.C:
			b.space.check()
		case <-retention.C:
			if err := b.ApplyRetention(ctx); err != nil && ctx.Err() == nil {
				b.opts.Log.Warn("the log's retention failed and will be tried again", "error", err)
			}
		}
	}
}

// ApplyRetention drops what is over the limits now; the broker does it by
// itself once a minute. The newest batch of a topic partition always stays.
func (b *Broker) ApplyRetention(ctx context.Context) error {
	if err := b.spareCompacted(ctx); err != nil {
		return err
	}
	b.cluster.ApplyRetention()
	if b.opts.RetentionAge <= 0 {
		return nil
	}
	return b.applyRetentionAge(ctx)
}

// applyRetentionAge stands in for kfake's retention.ms, which would empty a
// topic partition and so lose its high watermark at the next restart.
func (b *Broker) applyRetentionAge(ctx context.Context) error {
	names, err := b.deletableTopics(ctx)
	if err != nil || len(names) == 0 {
		return err
	}
	oldest := time.Now().Add(-b.opts.RetentionAge)
	offsets, err := b.admin.ListOffsetsAfterMilli(ctx, oldest.UnixMilli(), names...)
	if err != nil {
		return err
	}
	var failed error
	offsets.Each(func(o kadm.ListedOffset) {
		p := b.cluster.PartitionInfo(o.Topic, o.Partition)
		if o.Err != nil || p == nil {
			return
		}
		keep := o.Offset
		if keep < 0 || keep >= p.HighWatermark {
			keep = p.HighWatermark - 1
		}
		if keep > p.LogStartOffset {
			err := b.cluster.DeleteRecords(o.Topic, o.Partition, keep)
			if err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
				failed = errors.Join(failed, err)
			}
		}
	})
	return failed
}

// spareCompacted takes the size limit off topics that keep the last record of
// each key: kfake would apply it to them too.
func (b *Broker) spareCompacted(ctx context.Context) error {
	topics, err := b.admin.ListTopicsWithInternal(ctx)
	if err != nil {
		return err
	}
	for _, t := range topics.Names() {
		info := b.cluster.TopicInfo(t)
		if info == nil || info.Configs["retention.bytes"] != nil {
			continue
		}
		if policy := info.Configs["cleanup.policy"]; policy == nil || *policy != "compact" {
			continue
		}
		if err := setConfigs(ctx, b.admin, t, map[string]string{"retention.bytes": "-1"}); err != nil {
			return err
		}
	}
	return nil
}

// deletableTopics are those whose records may age out: not the compacted ones.
func (b *Broker) deletableTopics(ctx context.Context) ([]string, error) {
	topics, err := b.admin.ListTopics(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, t := range topics.Names() {
		info := b.cluster.TopicInfo(t)
		if info == nil {
			continue
		}
		policy := info.Configs["cleanup.policy"]
		if policy == nil || strings.Contains(*policy, "delete") {
			names = append(names, t)
		}
	}
	return names, nil
}

// spaceGuard refuses producing while the disk is nearly full. Without it the
// first failed write would be found by a client, and a failed sync by nobody.
type spaceGuard struct {
	cluster *kfake.Cluster
	opts    Options
	free    func(dir string) (uint64, error)
	fault   *kfake.FaultHandle // set while producing is refused
}

func newSpaceGuard(c *kfake.Cluster, o Options) *spaceGuard {
	return &spaceGuard{cluster: c, opts: o, free: freeBytes}
}

func freeBytes(dir string) (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return st.Bavail * uint64(st.Bsize), nil
}

func (g *spaceGuard) check() {
	if g.opts.MinFreeBytes < 0 {
		return
	}
	free, err := g.free(g.opts.Dir)
	if err != nil {
		return // a directory that is gone shows on the next write
	}
	full := free < uint64(g.opts.MinFreeBytes)
	switch {
	case full && g.fault == nil:
		// Rejected before the broker looks at it, so the client's retry is
		// no duplicate.
		g.fault = g.cluster.Fault(kfake.Fault{
			Keys:  []kmsg.Key{kmsg.Produce, kmsg.CreateTopics},
			Err:   kerr.KafkaStorageError,
			Count: -1,
		})
		g.opts.Log.Error("the disk of the log is nearly full: producing waits until there is room",
			"dir", g.opts.Dir, "free_bytes", free, "wanted_bytes", g.opts.MinFreeBytes)
	case !full && g.fault != nil:
		g.fault.Remove()
		g.fault = nil
		g.opts.Log.Info("the disk of the log has room again: producing goes on", "dir", g.opts.Dir)
	}
}
