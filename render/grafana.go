package render

import (
	"encoding/json"
	"fmt"
	"strings"

	"lockstep/compile"
)

// GrafanaOptions say what the provisioning points to.
type GrafanaOptions struct {
	Prometheus string // URL of Prometheus as Grafana's server reaches it
	Dashboards string // folder of the dashboards on Grafana's server
}

// dataSource is the uid of the data source that every panel asks.
const dataSource = "lockstep-prometheus"

// Grafana gives provisioning files (a data source and a folder) and two
// dashboards. provisioning/ goes to Grafana's provisioning folder, dashboards/
// to the folder that the options name.
func Grafana(p *compile.Program, o GrafanaOptions) (Files, error) {
	slis, err := indicators(p.Project.Objectives)
	if err != nil {
		return nil, err
	}
	out := Files{
		"provisioning/datasources/lockstep.yaml": grafanaMade + fmt.Sprintf(`apiVersion: 1
datasources:
  - name: Lockstep Prometheus
    uid: %s
    type: prometheus
    access: proxy
    url: %s
    isDefault: false
    editable: false
    jsonData:
      httpMethod: POST
`, dataSource, quoted(o.Prometheus)),
		"provisioning/dashboards/lockstep.yaml": grafanaMade + fmt.Sprintf(`apiVersion: 1
providers:
  - name: lockstep
    folder: Lockstep
    folderUid: lockstep
    type: file
    disableDeletion: true
    allowUiUpdates: false
    updateIntervalSeconds: 30
    options:
      path: %s
`, quoted(o.Dashboards)),
	}
	for _, b := range []*board{speedBoard(p), healthBoard(p, slis)} {
		var text strings.Builder
		e := json.NewEncoder(&text)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(b.dashboard(p)); err != nil {
			return nil, fmt.Errorf("cannot render dashboard %s: %w", b.title, err)
		}
		out["dashboards/"+b.uid+".json"] = text.String()
	}
	return out, nil
}

const grafanaMade = "# Made by `lockstep render grafana`: change the project or the flags and render again, not this file.\n"

// where selects the instances that the dashboard shows.
const where = `job="lockstep",instance=~"$instance"`

// metricOf is a series of the chosen instances, with more labels to match.
func metricOf(name string, more ...string) string {
	return fmt.Sprintf("%s{%s}", name, strings.Join(append([]string{where}, more...), ","))
}

func rateOf(name string, more ...string) string {
	return fmt.Sprintf("rate(%s[$__rate_interval])", metricOf(name, more...))
}

const (
	byTopic = `topic=~"$topic"`
	byModel = `model=~"$model"`
)

// per gives one series for each value of a label: several processes of an
// instance may tell of the same topic or model.
func per(label, expr string) string { return fmt.Sprintf("max by (%s) (%s)", label, expr) }

func topicRate(metric string) string { return per("topic", rateOf(metric, byTopic)) }
func topicNow(metric string) string  { return per("topic", metricOf(metric, byTopic)) }
func modelNow(metric string) string  { return per("model", metricOf(metric, byModel)) }

// speedBoard is about the stream: how much comes, how fast it goes through.
func speedBoard(p *compile.Program) *board {
	b := &board{uid: "lockstep-speed-layer", title: "Monitoring Speed Layer", description: "What flows through bronze, silver and gold, how fast, and what waits."}
	b.row("Now")
	b.stat("Messages per second", "Records that steps took into bronze.", "cps", query("sum("+topicRate("lockstep_messages_total")+")", "bronze"))
	b.stat("Freshness p99", "99 of 100 records were in query answers within it, from their time in the log.", "s", query(quantile(0.99, "lockstep_freshness_seconds"), "p99")).limits(p.Project.Objectives.Freshness.Seconds())
	b.stat("Oldest waiting record", "How long the oldest record that no query sees yet has waited.", "s", query("max("+topicNow("lockstep_lag_seconds")+")", "lag")).limits(p.Project.Objectives.Lag.Seconds())
	b.stat("Records waiting", "Records in the log that are in no step yet.", "short", query("sum("+topicNow("lockstep_lag_messages")+")", "lag"))
	b.row("Bronze")
	b.graph("Messages per second by topic", "Records that steps took, a second.", "cps", query(topicRate("lockstep_messages_total"), "{{topic}}")).stack()
	b.graph("Bytes per second by topic", "As sent: keys and values.", "Bps", query(topicRate("lockstep_message_bytes_total"), "{{topic}}")).stack()
	b.graph("Lag by topic", "Records in the log that are in no step yet.", "short", query(topicNow("lockstep_lag_messages"), "{{topic}}"))
	b.graph("Age of the oldest waiting record by topic", "Since it was seen in the log.", "s", query(topicNow("lockstep_lag_seconds"), "{{topic}}"))
	for _, ns := range namespaces(p) {
		modelRate := func(metric string) string {
			return per("model", rateOf(metric, fmt.Sprintf(`model=~"%s[.].+"`, ns), byModel))
		}
		name := strings.ToUpper(ns[:1]) + ns[1:]
		b.row(name)
		b.graph(name+": rows changed per second", "Rows that steps added or removed.", "cps", query(modelRate("lockstep_model_rows_out_total"), "{{model}}")).stack()
		b.graph(name+": latency", "Mean time that a step spends on the model.", "s",
			query(modelRate("lockstep_model_step_seconds_total")+" / on () group_left max("+rateOf("lockstep_step")+")", "{{model}}"))
		b.graph(name+": input rate", "Changed rows of what the model reads, a second.", "cps", query(modelRate("lockstep_model_rows_in_total"), "{{model}}"))
		b.graph(name+": processing rate", "Changed input rows for each second of work: what the model could take. Where input rate comes near it, the stream falls behind.", "cps",
			query(modelRate("lockstep_model_rows_in_total")+" / "+modelRate("lockstep_model_step_seconds_total"), "{{model}}"))
	}
	return b
}

// healthBoard is about the objectives and what endangers them.
func healthBoard(p *compile.Program, slis []indicator) *board {
	b := &board{uid: "lockstep-pipeline-health", title: "Pipeline Health", description: "Service levels, and what endangers them."}
	b.row("Service levels, last hour")
	for _, s := range slis {
		b.stat(s.title, "Objective: "+s.goal+".", "percentunit", query("1 - max("+metricOf(s.record("1h"))+")", s.title)).floor(1 - s.budget)
	}
	b.row("Now")
	b.stat("Serving", "1: all parts serve.", "short", query("min("+metricOf("lockstep_ready")+")", "ready")).floor(1)
	b.stat("Drift", "Rows in which stream and batch differed at the last hand-over. Anything above 0 is a fault.", "short", query("max("+metricOf("lockstep_drift_rows")+")", "rows")).limits(1)
	b.stat("Dead letters", "That were not replayed.", "short", query("sum("+topicNow("lockstep_dead_letters")+")", "open")).limits(1)
	b.stat("Topics stopped", "That ingest does not read.", "short", query("sum("+topicNow("lockstep_topic_stopped")+")", "stopped")).limits(1)
	b.row("Freshness")
	b.graph("Freshness quantiles", "From a record's time in the log to query answers.", "s",
		query(quantile(0.5, "lockstep_freshness_seconds"), "p50"), query(quantile(0.95, "lockstep_freshness_seconds"), "p95"), query(quantile(0.99, "lockstep_freshness_seconds"), "p99"))
	b.graph("Bronze to silver quantiles", "From bronze to what queries see in silver and gold.", "s",
		query(quantile(0.5, "lockstep_bronze_to_silver_seconds"), "p50"), query(quantile(0.95, "lockstep_bronze_to_silver_seconds"), "p95"), query(quantile(0.99, "lockstep_bronze_to_silver_seconds"), "p99"))
	b.row("Faults")
	b.graph("Dead letters by topic", "That were not replayed.", "short", query(topicNow("lockstep_dead_letters"), "{{topic}}"))
	b.graph("Drift by model", "Rows that differed at the last hand-over.", "short", query(modelNow("lockstep_model_drift_rows"), "{{model}}"))
	b.row("Batch and storage")
	b.graph("Batch seconds", "How long the last batch took, and its comparison with what was served.", "s", query(metricOf("lockstep_batch_duration_seconds"), "batch"), query(metricOf("lockstep_batch_compare_duration_seconds"), "comparison"))
	b.graph("Steps behind", "Steps that are served but in no published table yet.", "short", query("max("+metricOf("lockstep_step")+") - max("+metricOf("lockstep_batch_step")+")", "steps"))
	b.graph("Commits per minute", "Commits of bronze, each of all topics together.", "cpm", query("60 * "+rateOf("lockstep_commits_total"), "{{instance}}"))
	b.graph("Seconds per commit", "Mean over the interval.", "s", query(rateOf("lockstep_commit_seconds_total")+" / "+rateOf("lockstep_commits_total"), "{{instance}}"))
	b.graph("Data files", "Of bronze and of the published tables. Upkeep merges small ones.", "short",
		query("sum("+topicNow("lockstep_bronze_files")+")", "bronze"), query("sum("+modelNow("lockstep_table_files")+")", "published"))
	b.graph("Rows in memory", "Rows that the stream made since the last batch, by model.", "short", query(modelNow("lockstep_overlay_rows"), "{{model}}"))
	b.graph("Memory", "Resident, of the process.", "bytes", query(metricOf("lockstep_memory_bytes"), "{{instance}}"))
	b.graph("Disk by part of the state", "", "bytes", query(per("part", metricOf("lockstep_state_bytes")), "{{part}}")).stack()
	return b
}

func quantile(q float64, histogram string) string {
	return fmt.Sprintf("histogram_quantile(%s, sum by (le) (%s))", number(q), rateOf(histogram+"_bucket"))
}
