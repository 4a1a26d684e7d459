package web

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metricsHandler answers /metrics: what Status says, at the moment of the
// scrape, and what the Go runtime says of the process.
func metricsHandler(b Backend, o Options) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(&collector{backend: b, version: o.Version},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

// metric is one figure of a Status. Its labels follow its kind: none, topic,
// model, or the part of the state.
type metric[T any] struct {
	name, help string
	kind       prometheus.ValueType
	value      func(T) float64
}

func (m metric[T]) desc(labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("lockstep_"+m.name, m.help, labels, nil)
}

var instanceMetrics = []metric[*Status]{
	{"ready", "1: all parts serve; 0: see /readyz for the reasons.", gauge, func(s *Status) float64 { return truth(s.Ready) }},
	{"start_time_seconds", "When the instance started, Unix time.", gauge, func(s *Status) float64 { return unix(s.Started) }},
	{"step", "Last step that queries see.", gauge, func(s *Status) float64 { return float64(s.Step) }},
	{"batch_step", "Step of the published tables.", gauge, func(s *Status) float64 { return float64(s.BatchStep) }},
	{"manifest", "Id of the manifest that is served.", gauge, func(s *Status) float64 { return float64(s.Manifest) }},
	{"manifest_published_time_seconds", "When it was published, Unix time; 0: none yet.", gauge, func(s *Status) float64 { return unix(s.Published) }},
	{"frozen", "1: queries see an earlier moment (rollback, or a rebuild runs).", gauge, func(s *Status) float64 { return truth(s.Frozen != "") }},
	{"drift_rows", "Rows in which the last full recompute and what was served at its step differ. Anything above 0 is a fault.", gauge, func(s *Status) float64 { return float64(s.DriftRows) }},
	{"batch_running", "1: the batch layer works.", gauge, func(s *Status) float64 { return truth(s.BatchNow != "") }},
	{"batch_duration_seconds", "How long the last batch took.", gauge, func(s *Status) float64 { return lastBatch(s).Seconds }},
	{"batch_compare_duration_seconds", "The part of it that the comparison with what was served took.", gauge, func(s *Status) float64 { return lastBatch(s).Compare }},
	{"batch_failed", "1: the last batch failed.", gauge, func(s *Status) float64 { return truth(lastBatch(s).Error != "") }},
	{"commits_total", "Commits of bronze, each of all topics together, since the process started.", counter, func(s *Status) float64 { return float64(s.Commits) }},
	{"commit_seconds_total", "Time spent in them.", counter, func(s *Status) float64 { return s.CommitSeconds }},
	{"problems", "Things that an operator must look at; `lockstep status` lists them.", gauge, func(s *Status) float64 { return float64(len(s.Problems)) }},
	{"memory_bytes", "Resident memory of the process.", gauge, func(s *Status) float64 { return float64(s.MemoryBytes) }},
}

var topicMetrics = []metric[TopicStatus]{
	{"messages_total", "Records of the topic accepted since the state began.", counter, func(t TopicStatus) float64 { return float64(t.Records) }},
	{"message_bytes_total", "Bytes of the topic's records accepted since the process started.", counter, func(t TopicStatus) float64 { return float64(t.Bytes) }},
	{"messages_per_second", "Records accepted per second, last 10 s.", gauge, func(t TopicStatus) float64 { return t.Rate }},
	{"lag_messages", "Records in the log that are in no step yet.", gauge, func(t TopicStatus) float64 { return float64(t.Lag) }},
	{"lag_seconds", "How long the oldest record in the log that is in no step yet has waited; 0: none waits.", gauge, func(t TopicStatus) float64 { return t.LagSeconds }},
	{"dead_letters_total", "Records judged dead since the process started.", counter, func(t TopicStatus) float64 { return float64(t.DeadTotal) }},
	{"dead_letters", "Dead letters that were not replayed.", gauge, func(t TopicStatus) float64 { return float64(t.Dead) }},
	{"topic_stopped", "1: ingest does not read the topic; `lockstep status` says why and what to do.", gauge, func(t TopicStatus) float64 { return truth(t.Stopped != "") }},
	{"bronze_rows", "Rows of the topic's bronze table.", gauge, func(t TopicStatus) float64 { return float64(t.BronzeRows) }},
	{"bronze_files", "Data files of the topic's bronze table.", gauge, func(t TopicStatus) float64 { return float64(t.BronzeFiles) }},
}

var modelMetrics = []metric[ModelStatus]{
	{"table_rows", "Rows of the model that queries see.", gauge, func(m ModelStatus) float64 { return float64(m.Rows) }},
	{"table_files", "Data files of the model's published table.", gauge, func(m ModelStatus) float64 { return float64(m.Files) }},
	{"overlay_rows", "Rows of the model that the stream made since the last batch.", gauge, func(m ModelStatus) float64 { return float64(m.OverlayRows) }},
	{"step_duration_seconds", "The model's share of the last step.", gauge, func(m ModelStatus) float64 { return m.StepSeconds }},
	{"model_step_seconds_total", "The model's share of all steps since the process started.", counter, func(m ModelStatus) float64 { return m.StepTotal }},
	{"model_rows_in_total", "Changed rows of what the model reads that steps took, since the process started.", counter, func(m ModelStatus) float64 { return float64(m.RowsIn) }},
	{"model_rows_out_total", "Rows of the model that steps added or removed, since the process started.", counter, func(m ModelStatus) float64 { return float64(m.RowsOut) }},
	{"model_batch_duration_seconds", "How long the last batch took for the model.", gauge, func(m ModelStatus) float64 { return m.BatchSeconds }},
	{"model_drift_rows", "The model's part of lockstep_drift_rows.", gauge, func(m ModelStatus) float64 { return float64(m.DriftRows) }},
}

var (
	infoDesc      = prometheus.NewDesc("lockstep_info", "Always 1; project and version as labels.", []string{"project", "version"}, nil)
	upDesc        = prometheus.NewDesc("lockstep_status_up", "1: the figures of this scrape are there; 0: the status could not be read.", nil, nil)
	stateDesc     = prometheus.NewDesc("lockstep_state_bytes", "Bytes on disk by part of the state.", []string{"part"}, nil)
	freshnessDesc = prometheus.NewDesc("lockstep_freshness_seconds", "From a record's time in the log to the step in which queries see it.", nil, nil)
	bronzeDesc    = prometheus.NewDesc("lockstep_bronze_to_silver_seconds", "From a record's acceptance into bronze to the step in which queries see it in silver and gold.", nil, nil)
)

// scrapeTime limits how long a scrape waits for the status.
const scrapeTime = 5 * time.Second

// collector turns a Status into metrics when it is scraped.
type collector struct {
	backend Backend
	version string
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{infoDesc, upDesc, stateDesc, freshnessDesc, bronzeDesc} {
		ch <- d
	}
	for _, m := range instanceMetrics {
		ch <- m.desc()
	}
	for _, m := range topicMetrics {
		ch <- m.desc("topic")
	}
	for _, m := range modelMetrics {
		ch <- m.desc("model")
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	s, err := c.backend.Status(ctx)
	ch <- prometheus.MustNewConstMetric(upDesc, gauge, truth(err == nil))
	if err != nil {
		return
	}
	ch <- prometheus.MustNewConstMetric(infoDesc, gauge, 1, s.Project, c.version)
	collect(ch, instanceMetrics, s)
	for _, t := range s.Topics {
		collect(ch, topicMetrics, t, "topic", t.Topic)
	}
	for _, m := range s.Models {
		collect(ch, modelMetrics, m, "model", m.Model)
	}
	for part, bytes := range s.Bytes {
		ch <- prometheus.MustNewConstMetric(stateDesc, gauge, float64(bytes), part)
	}
	ch <- s.Freshness.Since.metric(freshnessDesc)
	ch <- s.FromBronze.metric(bronzeDesc)
}

func (h *Histogram) metric(desc *prometheus.Desc) prometheus.Metric {
	buckets := map[float64]uint64{}
	for i := range h.Counts {
		buckets[h.Bounds[i]] = h.Counts[i]
	}
	return prometheus.MustNewConstHistogram(desc, h.Count, h.Sum, buckets)
}

// MetricNames lists the metrics of Lockstep by name: what rules and dashboards
// may name. A histogram's are the three that it is queried by.
func MetricNames() []string {
	names := []string{"lockstep_info", "lockstep_status_up", "lockstep_state_bytes"}
	for _, h := range []string{"lockstep_freshness_seconds", "lockstep_bronze_to_silver_seconds"} {
		names = append(names, h+"_bucket", h+"_sum", h+"_count")
	}
	return slices.Concat(names, namesOf(instanceMetrics), namesOf(topicMetrics), namesOf(modelMetrics))
}

func namesOf[T any](metrics []metric[T]) (names []string) {
	for _, m := range metrics {
		names = append(names, "lockstep_"+m.name)
	}
	return names
}

// collect sends all metrics of v. label is empty, or a label's name and value.
func collect[T any](ch chan<- prometheus.Metric, metrics []metric[T], v T, label ...string) {
	for _, m := range metrics {
		if len(label) == 0 {
			ch <- prometheus.MustNewConstMetric(m.desc(), m.kind, m.value(v))
			continue
		}
		ch <- prometheus.MustNewConstMetric(m.desc(label[0]), m.kind, m.value(v), label[1])
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func lastBatch(s *Status) *BatchReport {
	if s.LastBatch == nil {
		return &BatchReport{}
	}
	return s.LastBatch
}
