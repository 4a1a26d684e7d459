package render

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"lockstep/project"
)

// alert is a rule with its runbook and its test.
type alert struct {
	name, severity       string
	expr                 string
	wait                 time.Duration // how long it must hold
	summary, description string
	remedy               string
	value                string // template of the annotation; empty: none

	// The test: after so many minutes of the series firing, the alert has these
	// labels (and what the value says); of the series quiet it does not fire.
	at            int
	labels        map[string]string
	wantValue     string
	firing, quiet []series
}

// series is a time series of a test in promtool's notation, a sample a minute.
type series struct{ name, samples string }

// of names a series of the instance that tests have.
func of(metric string, labels ...string) string {
	return fmt.Sprintf(`%s{job="lockstep",instance="i"%s}`, metric, strings.Join(append([]string{""}, labels...), ","))
}

// lockstepAlerts are those about an instance itself.
func lockstepAlerts(o project.Objectives, s schedule) []alert {
	instance := map[string]string{"job": "lockstep", "instance": "i"}
	topic := map[string]string{"job": "lockstep", "instance": "i", "topic": "t"}
	lag := fmt.Sprint(o.Lag.Seconds())
	stalled := promDuration(o.Stalled)
	stalledMinutes := int(o.Stalled.Minutes()) + 3
	out := []alert{
		{
			name: "LockstepDown", severity: "page", wait: time.Minute, expr: `up{job="lockstep"} == 0`,
			summary: "Lockstep does not answer", description: "Prometheus cannot read /metrics of {{ $labels.instance }}.",
			remedy: "Look at the process and its log; start it again with the same --state: it continues where it was and loses nothing. If it runs, check address and password of the scrape.",
			at:     3, labels: instance, firing: []series{{of("up"), "0x3"}}, quiet: []series{{of("up"), "1x3"}},
		},
		{
			name: "LockstepNotReady", severity: "page", wait: 5 * time.Minute, expr: `lockstep_ready == 0 or lockstep_status_up == 0`,
			summary: "A part of Lockstep does not serve", description: "{{ $labels.instance }} runs, but not all of its parts serve.",
			remedy: "`lockstep status` and /readyz give the reasons. A rebuild ends by itself; the last manifest is served meanwhile.",
			at:     7, labels: instance, firing: []series{{of("lockstep_ready"), "0x7"}, {of("lockstep_status_up"), "1x7"}}, quiet: []series{{of("lockstep_ready"), "1x7"}, {of("lockstep_status_up"), "1x7"}},
		},
		{
			name: "LockstepLag", severity: "page", wait: time.Minute, expr: "lockstep_lag_seconds > " + lag,
			summary: "Records of a topic wait too long", description: "The oldest record of topic {{ $labels.topic }} that no query sees yet has waited longer than " + promDuration(o.Lag) + ".",
			remedy: "`lockstep status` says whether the topic is stopped, and why. If it flows, input is above what the speed layer takes: see processing rate on Monitoring Speed Layer; add cores, or slow the producers.",
			value:  "{{ $value | humanizeDuration }}", wantValue: humanDuration(2 * o.Lag),
			at: 3, labels: topic, firing: []series{{of("lockstep_lag_seconds", `topic="t"`), number(2*o.Lag.Seconds()) + "x3"}}, quiet: []series{{of("lockstep_lag_seconds", `topic="t"`), lag + "x3"}},
		},
		{
			name: "LockstepStalled", severity: "page", wait: time.Minute,
			expr:    fmt.Sprintf("sum by (job, instance) (lockstep_lag_messages) > 0 and on (job, instance) changes(lockstep_step[%s]) == 0 and on (job, instance) lockstep_frozen == 0", stalled),
			summary: "No step comes while records wait", description: "Records wait in the log, and no step became visible on {{ $labels.instance }} for " + stalled + ".",
			remedy: "`lockstep status` names the part that waits: log, registry, disk or a topic that is stopped. Mend it; steps go on by themselves. Otherwise start the process again.",
			value:  "{{ $value }} records", wantValue: "5 records",
			at: stalledMinutes, labels: instance,
			firing: []series{{of("lockstep_lag_messages", `topic="t"`), repeat("5", stalledMinutes)}, {of("lockstep_step"), repeat("7", stalledMinutes)}, {of("lockstep_frozen"), repeat("0", stalledMinutes)}},
			quiet:  []series{{of("lockstep_lag_messages", `topic="t"`), repeat("5", stalledMinutes)}, {of("lockstep_step"), fmt.Sprintf("7+1x%d", stalledMinutes)}, {of("lockstep_frozen"), repeat("0", stalledMinutes)}},
		},
		{
			name: "LockstepTopicStopped", severity: "page", wait: time.Minute, expr: "lockstep_topic_stopped == 1",
			summary: "A topic is not read", description: "Ingest does not read topic {{ $labels.topic }}: going on would lose or double records. Other topics go on.",
			remedy: "`lockstep status` says why and what to do.",
			at:     3, labels: topic, firing: []series{{of("lockstep_topic_stopped", `topic="t"`), "1x3"}}, quiet: []series{{of("lockstep_topic_stopped", `topic="t"`), "0x3"}},
		},
		{
			name: "LockstepDrift", severity: "page", expr: "lockstep_drift_rows > 0",
			summary: "Stream and batch differ", description: "The last full recompute and what the stream served at its step differ on {{ $labels.instance }}. That is a fault of Lockstep or of its storage; the batch's rows are served now.",
			remedy: "lockstep_model_drift_rows names the models and the file drift-*.json in the state's folder batch the rows. `lockstep verify` compares again. Keep both and report them.",
			value:  "{{ $value }} rows", wantValue: "3 rows",
			at: 1, labels: instance, firing: []series{{of("lockstep_drift_rows"), "3x1"}}, quiet: []series{{of("lockstep_drift_rows"), "0x1"}},
		},
		{
			name: "LockstepDeadLetters", severity: "ticket", wait: 5 * time.Minute, expr: "lockstep_dead_letters > 0",
			summary: "Records could not be taken", description: "Topic {{ $labels.topic }} has dead letters that were not replayed.",
			remedy: "`lockstep dlq list --topic {{ $labels.topic }}` says why. Mend the cause (register the schema, say), then `lockstep dlq replay --topic {{ $labels.topic }}`.",
			value:  "{{ $value }} records", wantValue: "2 records",
			at: 7, labels: topic, firing: []series{{of("lockstep_dead_letters", `topic="t"`), "2x7"}}, quiet: []series{{of("lockstep_dead_letters", `topic="t"`), "0x7"}},
		},
		{
			name: "LockstepBatchFailed", severity: "ticket", wait: 5 * time.Minute, expr: "lockstep_batch_failed == 1",
			summary: "The last batch failed", description: "What was published before stays served on {{ $labels.instance }}, and the stream goes on; its changes since then stay in memory.",
			remedy: "`lockstep status` has the error. `lockstep batch` runs one now.",
			at:     7, labels: instance, firing: []series{{of("lockstep_batch_failed"), "1x7"}}, quiet: []series{{of("lockstep_batch_failed"), "0x7"}},
		},
		{
			name: "LockstepFrozen", severity: "ticket", wait: time.Hour, expr: "lockstep_frozen == 1",
			summary: "Queries see an earlier moment", description: "Queries on {{ $labels.instance }} have seen an earlier moment for an hour: a rollback was not released, or a rebuild does not end.",
			remedy: "`lockstep status` says which. `lockstep rollback --release` serves the newest again.",
			at:     62, labels: instance, firing: []series{{of("lockstep_frozen"), "1x62"}}, quiet: []series{{of("lockstep_frozen"), "0x62"}},
		},
		{
			name: "LockstepProblems", severity: "ticket", wait: 10 * time.Minute, expr: "lockstep_problems > 0",
			summary: "Lockstep has problems to look at", description: "{{ $labels.instance }} lists problems that do not end by themselves.",
			remedy: "`lockstep status` lists them, each with its remedy.",
			at:     12, labels: instance, firing: []series{{of("lockstep_problems"), "1x12"}}, quiet: []series{{of("lockstep_problems"), "0x12"}},
		},
	}
	if every := s.longest(); every > 0 {
		out = append(out, batchLate(every, instance))
	}
	return out
}

// batchLate watches that batches come as the schedule has them.
func batchLate(every time.Duration, instance map[string]string) alert {
	late := max(15*time.Minute, 3*every).Round(time.Minute)
	minutes := int(late.Minutes()) + 7
	// The test's clock begins at 0: a manifest of that time gets old.
	return alert{
		name: "LockstepBatchLate", severity: "ticket", wait: 5 * time.Minute,
		expr:    fmt.Sprintf("time() - (lockstep_manifest_published_time_seconds > 0) > %s and on (job, instance) lockstep_step > lockstep_batch_step and on (job, instance) lockstep_frozen == 0", number(late.Seconds())),
		summary: "No batch was published", description: "The stream went on, but no batch was published on {{ $labels.instance }} for " + promDuration(late) + "; the schedule has at most " + promDuration(every) + " between two.",
		remedy: "`lockstep status` says what the batch layer does and how its last run ended; with an outside scheduler, look at the DAG's last run there. `lockstep batch` runs one now.",
		at:     minutes, labels: instance,
		firing: []series{{of("lockstep_manifest_published_time_seconds"), repeat("1", minutes)}, {of("lockstep_step"), repeat("9", minutes)}, {of("lockstep_batch_step"), repeat("7", minutes)}, {of("lockstep_frozen"), repeat("0", minutes)}},
		quiet:  []series{{of("lockstep_manifest_published_time_seconds"), repeat("1", minutes)}, {of("lockstep_step"), repeat("7", minutes)}, {of("lockstep_batch_step"), repeat("7", minutes)}, {of("lockstep_frozen"), repeat("0", minutes)}},
	}
}

// partAlerts are about the outside parts that are scraped.
func partAlerts(o PrometheusOptions) (out []alert) {
	down := func(name, job, part, remedy string) alert {
		up := fmt.Sprintf(`up{job="%s",instance="i"}`, job)
		return alert{
			name: name, severity: "page", wait: time.Minute, expr: fmt.Sprintf(`up{job="%s"} == 0`, job),
			summary: part + " does not answer", description: part + " at {{ $labels.instance }} does not answer.", remedy: remedy,
			at: 3, labels: map[string]string{"job": job, "instance": "i"}, firing: []series{{up, "0x3"}}, quiet: []series{{up, "1x3"}},
		}
	}
	if len(o.Kafka) > 0 {
		out = append(out,
			down("KafkaBrokerDown", "kafka", "A Kafka broker", "Start it again. With three brokers and min.insync.replicas=2 one may be missing: producers and Lockstep go on."),
			kafkaPartitions("KafkaUnderReplicated", "ticket", 5*time.Minute, "kafka_server_replicamanager_underreplicatedpartitions", "Partitions lack replicas",
				"A broker is down or cannot keep up. When it is back, wait until its replicas are in sync before another one is stopped."),
			kafkaPartitions("KafkaOffline", "page", time.Minute, "kafka_controller_kafkacontroller_offlinepartitionscount", "Partitions have no leader",
				"No broker serves these partitions: start the brokers that hold them. Lockstep waits and goes on by itself."))
	}
	if len(o.Spark) > 0 {
		out = append(out, down("SparkDown", "spark", "A Spark driver or master", "See its log. `lockstep speed` starts the streaming driver again; it continues from bronze and the last step."))
	}
	if len(o.MinIO) > 0 {
		out = append(out, down("MinioDown", "minio", "The object store", "Start it again. Nothing is committed meanwhile; Lockstep tries again by itself."))
	}
	return out
}

func kafkaPartitions(name, severity string, wait time.Duration, metric, summary, remedy string) alert {
	minutes := int(wait.Minutes()) + 2
	s := metric + `{job="kafka",instance="i"}`
	return alert{
		name: name, severity: severity, wait: wait, expr: fmt.Sprintf("sum by (job) (%s) > 0", metric), summary: summary,
		description: "Kafka's brokers report it.", remedy: remedy, value: "{{ $value }} partitions", wantValue: "4 partitions",
		at: minutes, labels: map[string]string{"job": "kafka"}, firing: []series{{s, repeat("4", minutes)}}, quiet: []series{{s, repeat("0", minutes)}},
	}
}

func repeat(value string, times int) string { return fmt.Sprintf("%sx%d", value, times) }

// alertRules writes the rule file.
func alertRules(alerts []alert) string {
	var b strings.Builder
	b.WriteString(made)
	b.WriteString("groups:\n  - name: lockstep_alerts\n    rules:\n")
	for _, a := range alerts {
		fmt.Fprintf(&b, "      - alert: %s\n        expr: %s\n", a.name, block(a.expr))
		if a.wait > 0 {
			fmt.Fprintf(&b, "        for: %s\n", promDuration(a.wait))
		}
		fmt.Fprintf(&b, "        labels: {severity: %s}\n        annotations:\n", a.severity)
		for _, name := range slices.Sorted(maps.Keys(a.annotations())) {
			fmt.Fprintf(&b, "          %s: %s\n", name, quoted(a.annotations()[name]))
		}
	}
	return b.String()
}

func (a *alert) annotations() map[string]string {
	out := map[string]string{"summary": a.summary, "description": a.description, "runbook": a.remedy}
	if a.value != "" {
		out["value"] = a.value
	}
	return out
}

// alertTests writes a test file for promtool: each alert fires of its series,
// and does not of the quiet ones.
func alertTests(alerts []alert) string {
	var b strings.Builder
	b.WriteString(made)
	b.WriteString("# Run: promtool test rules alerts.test.yml\nrule_files: [rules.yml, alerts.yml]\nevaluation_interval: 1m\ntests:\n")
	for _, a := range alerts {
		a.test(&b, "fires", a.firing, true)
		a.test(&b, "is quiet", a.quiet, false)
	}
	return b.String()
}

func (a *alert) test(b *strings.Builder, what string, input []series, fires bool) {
	fmt.Fprintf(b, "  - name: %s %s\n    interval: 1m\n    input_series:\n", a.name, what)
	for _, s := range input {
		fmt.Fprintf(b, "      - {series: %s, values: %s}\n", block(s.name), quoted(s.samples))
	}
	fmt.Fprintf(b, "    alert_rule_test:\n      - alertname: %s\n        eval_time: %dm\n        exp_alerts:", a.name, a.at)
	if !fires {
		b.WriteString(" []\n")
		return
	}
	b.WriteString("\n          - exp_labels:\n")
	labels := maps.Clone(a.labels)
	labels["severity"] = a.severity
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(b, "              %s: %s\n", name, labels[name])
	}
	b.WriteString("            exp_annotations:\n")
	for _, name := range slices.Sorted(maps.Keys(a.annotations())) {
		fmt.Fprintf(b, "              %s: %s\n", name, quoted(a.expanded(name)))
	}
}

// expanded is an annotation as the alert of the test has it.
func (a *alert) expanded(name string) string {
	text := a.annotations()[name]
	if name == "value" {
		return a.wantValue
	}
	for label, value := range a.labels {
		text = strings.ReplaceAll(text, "{{ $labels."+label+" }}", value)
	}
	return text
}

// humanDuration is the humanizeDuration of Prometheus' templates.
func humanDuration(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%dms", d.Milliseconds())
	}
	s := int64(d.Seconds())
	switch {
	case s >= 24*3600:
		return fmt.Sprintf("%dd %dh %dm %ds", s/86400, s/3600%24, s/60%60, s%60)
	case s >= 3600:
		return fmt.Sprintf("%dh %dm %ds", s/3600, s/60%60, s%60)
	case s >= 60:
		return fmt.Sprintf("%dm %ds", s/60, s%60)
	}
	return fmt.Sprintf("%ds", s)
}
