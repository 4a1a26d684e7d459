package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"lockstep/compile"
	"lockstep/engine/spark"
	"lockstep/lake"
	"lockstep/project"
	"lockstep/registry"
	"lockstep/speed"
	"lockstep/web"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// SpeedOptions say how the speed layer runs.
type SpeedOptions struct {
	Program   *compile.Program
	Config    *Config
	Dir       string // for what Spark's driver keeps locally; it can be lost
	UntilIdle bool   // end when the log is read to its end
	Progress  func(spark.Event)
	Output    io.Writer // what Spark logs
	Log       *slog.Logger
}

// Speed is the speed layer of a cluster: the streaming application on Spark,
// watched from here.
type Speed struct {
	options SpeedOptions
	started time.Time
	fresh   speed.Freshness
	lags    web.LagAge

	mu     sync.Mutex
	last   spark.Event // of kind step
	status spark.Event // of kind status
	state  string      // kind of the newest event that is none of them
	why    string      // it failed
	topics map[string]*topicCount
	models map[string]*modelCount

	commits       int64 // of bronze
	commitSeconds float64
}

type topicCount struct {
	accepted, dead int64
	rates          []rated // of the last seconds
}

type rated struct {
	at      time.Time
	records int64
}

type modelCount struct {
	seconds, total float64
	in, out        int64
}

// NewSpeed makes a speed layer; Run starts it.
func NewSpeed(o SpeedOptions) *Speed {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Speed{options: o, started: time.Now(), state: "starting", topics: map[string]*topicCount{}, models: map[string]*modelCount{}}
}

// Run makes what the application needs, and keeps it running until ctx ends.
func (s *Speed) Run(ctx context.Context) error {
	o := s.options
	if err := s.prepare(ctx); err != nil {
		return fmt.Errorf("cannot start the speed layer: %w", err)
	}
	plan, err := spark.NewPlan(o.Program)
	if err != nil {
		return err
	}
	c := o.Config
	return spark.RunSpeed(ctx, spark.SpeedConfig{Submit: c.SparkSubmit, Master: c.SparkMaster, Conf: c.SparkConf, Jars: c.SparkJars, Dir: o.Dir, Plan: plan,
		Settings: c.speedSettings(), UntilIdle: o.UntilIdle, Event: s.note, Output: o.Output, Log: o.Log})
}

// speedSettings are what app/main.py is told.
func (c *Config) speedSettings() map[string]any {
	return map[string]any{
		"kafka": c.Kafka, "kafka_tls": c.KafkaTLS, "kafka_ca": c.KafkaCA, "kafka_sasl": c.KafkaSASL, "kafka_user": c.KafkaUser, "kafka_password": c.KafkaPassword,
		"registry": c.Registry, "registry_user": c.RegistryUser, "registry_password": c.RegistryPassword, "registry_ca": c.RegistryCA,
		"catalog": c.Catalog, "catalog_token": c.CatalogToken, "catalog_credential": c.CatalogCredential,
		"warehouse": c.Warehouse, "s3_endpoint": c.S3Endpoint, "s3_access_key": c.S3AccessKey, "s3_secret_key": c.S3SecretKey, "s3_region": c.S3Region,
		"trigger": triggerOf(c.Trigger), "max_rows": c.MaxRows,
	}
}

// triggerOf writes a duration as Spark reads it.
func triggerOf(text string) string {
	d, err := time.ParseDuration(text)
	if err != nil {
		return text
	}
	return fmt.Sprintf("%d milliseconds", d.Milliseconds())
}

// prepare makes topics, contracts and bronze tables where they are missing, by
// the code that makes them elsewhere.
func (s *Speed) prepare(ctx context.Context) error {
	c, p := s.options.Config, s.options.Program.Project
	if err := makeTopics(ctx, c, p); err != nil {
		return err
	}
	if err := s.register(ctx, c, p); err != nil {
		return err
	}
	l, err := OpenLake(ctx, c, s.options.Log)
	if err != nil {
		return err
	}
	for _, src := range p.Sources {
		if err := makeBronze(ctx, l, src); err != nil {
			return errors.Join(err, l.Close())
		}
	}
	return l.Close()
}

// makeBronze makes a bronze table, or gives it the contract's new columns. Where
// another one does the same at this moment, it looks again.
func makeBronze(ctx context.Context, l *lake.Lake, src *project.Source) (err error) {
	for range 5 {
		if _, err = l.Bronze(ctx, src.Table(), src.Columns()); !errors.Is(err, lake.ErrConflict) {
			return err
		}
	}
	return err
}

func makeTopics(ctx context.Context, c *Config, p *project.Project) error {
	opts, err := c.KafkaOptions()
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("cannot connect to Kafka: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	have, err := admin.ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("cannot list topics: %w", c.explainKafka(err))
	}
	for _, src := range p.Sources {
		if have.Has(src.Topic) {
			continue
		}
		res, err := admin.CreateTopic(ctx, int32(src.Partitions), -1, nil, src.Topic)
		if err == nil && !errors.Is(res.Err, kerr.TopicAlreadyExists) {
			err = res.Err
		}
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("cannot make topic %s: %w", src.Topic, err)
		}
	}
	return nil
}

// register makes the contracts known to the registry, for producers that look
// there. One that does not answer is no reason to wait: records do where they
// need it.
func (s *Speed) register(ctx context.Context, c *Config, p *project.Project) error {
	opts, err := c.RegistryOptions()
	if err != nil {
		return fmt.Errorf("cannot use the registry: %w", err)
	}
	client, err := registry.NewClient(c.Registry, opts...)
	if err != nil {
		return err
	}
	for _, src := range p.Sources {
		short, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err := client.Register(short, src.Topic+"-value", string(src.Schema))
		cancel()
		if err != nil {
			s.options.Log.Warn("cannot register the topic's contract", "topic", src.Topic, "error", err)
			if !errors.Is(err, registry.ErrRefused) {
				return nil
			}
		}
	}
	return nil
}

// note takes an event of the application.
func (s *Speed) note(e spark.Event) {
	s.mu.Lock()
	switch e.Kind {
	case "step":
		s.last = e
		s.count(e)
	case "status":
		s.status = e
	case "stopped", "manifest":
	default:
		s.state, s.why = e.Kind, e.Message
	}
	s.mu.Unlock()
	switch e.Kind {
	case "stopped":
		s.options.Log.Error("a topic cannot be read", "topic", e.Topic, "error", e.Message)
	case "failed":
		s.options.Log.Error("the speed layer failed", "error", e.Message)
	case "status":
		s.noteLag(e)
	case "step":
		s.fresh.ObserveSinceJudged(e.Seconds["step"]+e.Seconds["speed"], e.Rows)
		served := time.UnixMicro(int64(e.Time * 1e6))
		for _, age := range e.Ages {
			s.fresh.ObserveAge(age[0], int64(age[1]), served)
		}
	}
	if s.options.Progress != nil {
		s.options.Progress(e)
	}
}

// noteLag tells how far each topic is, by numbers of records: the application
// does not tell offsets.
func (s *Speed) noteLag(e spark.Event) {
	for topic, lag := range e.Lag {
		read := e.Totals["accepted"][topic] + e.Totals["dead"][topic]
		s.lags.Observe(topic, 0, read, read+lag, time.Now())
	}
}

// rowsIn counts the changed rows of what a model reads.
func (s *Speed) rowsIn(model string, e spark.Event) (n int64) {
	m := s.options.Program.Model(model)
	if m == nil {
		return 0
	}
	for _, table := range m.Reads {
		if topic, isBronze := strings.CutPrefix(table, "bronze."); isBronze {
			n += e.Accepted[topic]
		} else if c := e.Changed[table]; len(c) == 2 {
			n += c[1]
		}
	}
	return n
}

// count adds a step to the counters; the lock is held.
func (s *Speed) count(e spark.Event) {
	now := time.Now()
	s.commits, s.commitSeconds = s.commits+1, s.commitSeconds+e.Seconds["bronze"]
	for _, src := range s.options.Program.Project.Sources {
		t := s.topics[src.Topic]
		if t == nil {
			t = &topicCount{}
			s.topics[src.Topic] = t
		}
		t.accepted += e.Accepted[src.Topic]
		t.dead += e.Dead[src.Topic]
		t.rates = append(t.rates, rated{now, e.Accepted[src.Topic]})
		for len(t.rates) > 0 && now.Sub(t.rates[0].at) > rateWindow {
			t.rates = t.rates[1:]
		}
	}
	for name, seconds := range e.Models {
		m := s.models[name]
		if m == nil {
			m = &modelCount{}
			s.models[name] = m
		}
		m.seconds, m.total = seconds, m.total+seconds
		m.in += s.rowsIn(name, e)
		if c := e.Changed[name]; len(c) == 2 {
			m.out += c[1]
		}
	}
}

const rateWindow = 30 * time.Second

func (t *topicCount) rate(now time.Time) float64 {
	var n int64
	for _, r := range t.rates {
		if now.Sub(r.at) <= rateWindow {
			n += r.records
		}
	}
	return float64(n) / rateWindow.Seconds()
}

// Last is the newest step event; its Step is 0 where there was none.
func (s *Speed) Last() spark.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// Status says what the application told last.
func (s *Speed) Status(context.Context) (*web.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.options.Program
	out := &web.Status{Project: p.Project.Name, State: s.options.Dir, Started: s.started, Ready: s.state == "running" && len(s.status.Stopped) == 0,
		Step: max(s.last.Step, s.status.Step), Manifest: s.status.Manifest, BatchStep: s.status.Base, Bytes: map[string]int64{}}
	out.Freshness.P50, out.Freshness.P99, out.Freshness.Count = s.fresh.Quantiles()
	counts, sum := s.fresh.Histogram()
	out.Freshness.Since = web.NewHistogram(speed.Buckets, counts, sum)
	counts, sum = s.fresh.SinceJudged()
	out.FromBronze = web.NewHistogram(speed.Buckets, counts, sum)
	out.Commits, out.CommitSeconds = s.commits, s.commitSeconds
	if s.state != "running" {
		out.NotReady = append(out.NotReady, "the speed layer is "+s.state)
	}
	if s.why != "" {
		out.Problems = append(out.Problems, s.why)
	}
	for _, topic := range slices.Sorted(maps.Keys(s.status.Stopped)) {
		out.Problems = append(out.Problems, "topic "+topic+" stopped: "+s.status.Stopped[topic])
		out.NotReady = append(out.NotReady, "topic "+topic+" is stopped")
	}
	for _, topic := range slices.Sorted(maps.Keys(s.status.Waiting)) {
		out.Problems = append(out.Problems, "topic "+topic+" waits: "+s.status.Waiting[topic])
	}
	s.describe(out)
	return out, nil
}

// describe fills in topics and models; the lock is held.
func (s *Speed) describe(out *web.Status) {
	now := time.Now()
	for _, src := range s.options.Program.Project.Sources {
		t := web.TopicStatus{Topic: src.Topic, Records: s.status.Totals["accepted"][src.Topic], Dead: s.status.Totals["dead"][src.Topic],
			Lag: s.status.Lag[src.Topic], LagSeconds: s.lags.Seconds(src.Topic), Stopped: s.status.Stopped[src.Topic]}
		if c := s.topics[src.Topic]; c != nil {
			t.Rate, t.DeadTotal = c.rate(now), c.dead
		}
		out.Topics = append(out.Topics, t)
	}
	for _, m := range s.options.Program.Models {
		ms := web.ModelStatus{Model: m.Name, Materialized: string(m.Materialized)}
		if c := s.models[m.Name]; c != nil {
			ms.StepSeconds, ms.StepTotal, ms.RowsIn, ms.RowsOut = c.seconds, c.total, c.in, c.out
		}
		out.Models = append(out.Models, ms)
	}
}
