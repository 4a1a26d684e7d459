package render

import (
	"fmt"
	"strings"
	"time"

	"lockstep/compile"
)

// PrometheusOptions say where the parts are, and where alerts go. Addresses
// are host:port.
type PrometheusOptions struct {
	Lockstep     []string // instances: what `lockstep run` or `lockstep serve` listens on
	PasswordFile string   // file with LOCKSTEP_PASSWORD, where the instance asks for it; empty: it does not
	Kafka        []string // JMX exporters of the brokers
	Spark        []string // drivers' and masters' web addresses
	MinIO        []string
	Alertmanager []string
	Webhook      string        // URL that alerts are posted to; empty: the receivers are there, and post nowhere
	Interval     time.Duration // between two scrapes; 0: 15 s
}

// Prometheus gives the configuration of Prometheus and Alertmanager, and the
// rules with their tests for promtool. Kafka's metrics are named as
// deploy/stack/kafka-jmx.yaml has them.
func Prometheus(p *compile.Program, o PrometheusOptions) (Files, error) {
	if o.Interval == 0 {
		o.Interval = 15 * time.Second
	}
	s, err := parseSchedule(p.Project.Batch.Schedule)
	if err != nil {
		return nil, err
	}
	slis, err := indicators(p.Project.Objectives)
	if err != nil {
		return nil, err
	}
	alerts := lockstepAlerts(p.Project.Objectives, s)
	alerts = append(alerts, burnAlerts(slis)...)
	alerts = append(alerts, partAlerts(o)...)
	return Files{
		"prometheus.yml":   prometheusConfig(p.Project.Name, o),
		"alertmanager.yml": alertmanagerConfig(o),
		"rules.yml":        recordingRules(slis),
		"alerts.yml":       alertRules(alerts),
		"alerts.test.yml":  alertTests(alerts),
	}, nil
}

const made = "# Made by `lockstep render prometheus`: change the project or the flags and render again, not this file.\n"

func prometheusConfig(name string, o PrometheusOptions) string {
	var b strings.Builder
	b.WriteString(made)
	fmt.Fprintf(&b, "global:\n  scrape_interval: %s\n  evaluation_interval: %[1]s\n  external_labels:\n    project: %s\n", promDuration(o.Interval), name)
	b.WriteString("rule_files:\n  - rules.yml\n  - alerts.yml\n")
	if len(o.Alertmanager) > 0 {
		fmt.Fprintf(&b, "alerting:\n  alertmanagers:\n    - static_configs:\n        - targets: %s\n", targets(o.Alertmanager))
	}
	b.WriteString("scrape_configs:\n")
	job(&b, "lockstep", "/metrics", o.Lockstep)
	if o.PasswordFile != "" && len(o.Lockstep) > 0 {
		fmt.Fprintf(&b, "    basic_auth:\n      username: lockstep\n      password_file: %s\n", quoted(o.PasswordFile))
	}
	job(&b, "kafka", "/metrics", o.Kafka)
	job(&b, "spark", "/metrics/prometheus/", o.Spark)
	job(&b, "minio", "/minio/v2/metrics/cluster", o.MinIO)
	return b.String()
}

func job(b *strings.Builder, name, path string, where []string) {
	if len(where) > 0 {
		fmt.Fprintf(b, "  - job_name: %s\n    metrics_path: %s\n    static_configs:\n      - targets: %s\n", name, path, targets(where))
	}
}

func targets(addresses []string) string {
	list := make([]string, len(addresses))
	for i, a := range addresses {
		list[i] = quoted(a)
	}
	return "[" + strings.Join(list, ", ") + "]"
}

// quoted writes a YAML string in double quotes, which are JSON's.
func quoted(s string) string { return pythonString(s) }

func alertmanagerConfig(o PrometheusOptions) string {
	receiver := "\n"
	if o.Webhook != "" {
		receiver = fmt.Sprintf("\n    webhook_configs:\n      - url: %s\n        send_resolved: true\n", quoted(o.Webhook))
	}
	return made + `# "page" needs somebody now, "ticket" within days.
route:
  receiver: ticket
  group_by: [alertname, instance]
  group_wait: 10s
  group_interval: 1m
  repeat_interval: 1d
  routes:
    - matchers: ['severity="page"']
      receiver: page
      repeat_interval: 4h
receivers:
  - name: page` + receiver + `  - name: ticket` + receiver + `# What follows from an instance that is down says nothing new.
inhibit_rules:
  - source_matchers: ['alertname="LockstepDown"']
    target_matchers: ['job="lockstep"', 'alertname!="LockstepDown"']
    equal: [instance]
  - source_matchers: ['alertname="LockstepTopicStopped"']
    target_matchers: ['alertname=~"LockstepLag|LockstepStalled"']
    equal: [instance]
`
}
