package render

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lockstep/project"
	"lockstep/speed"
)

// indicator is a service level indicator: the share of what went wrong, over
// any window.
type indicator struct {
	name, title string
	budget      float64 // share that may go wrong
	goal        string  // in words
	expr        func(window string) string
	remedy      string
	// good and bad are series of a test, one sample a minute: expanding
	// notation by series name.
	good, bad []series
}

// delayBudget is the share of records that may come later than a delay's
// objective.
const delayBudget = 0.01

// windows are those that burn rates compare.
var windows = []string{"5m", "30m", "1h", "2h", "6h", "1d", "3d"}

// availableRule is 1 while an instance answers and all its parts serve.
const availableRule = `(up{job="lockstep"} == 1) * on (job, instance) lockstep_ready or on (job, instance) up{job="lockstep"} * 0`

func indicators(o project.Objectives) ([]indicator, error) {
	var out []indicator
	for _, d := range []struct {
		name, metric, title, from string
		target                    time.Duration
	}{
		{"bronze_to_silver", "lockstep_bronze_to_silver_seconds", "Bronze to silver", "bronze to silver and gold", o.BronzeToSilver},
		{"freshness", "lockstep_freshness_seconds", "Freshness", "the log to query answers", o.Freshness},
	} {
		if !slices.Contains(speed.Buckets, d.target.Seconds()) {
			return nil, fmt.Errorf("cannot watch slos.%s: %s of project.yaml: there is no histogram bucket of %g s: use one of %s", d.name, d.target, d.target.Seconds(), bucketList())
		}
		out = append(out, delay(d.name, d.metric, d.title, d.from, d.target))
	}
	return append(out, indicator{
		name: "errors", title: "Errors", budget: o.ErrorRate, goal: fmt.Sprintf("at most %s of the records become dead letters", percent(o.ErrorRate)),
		expr: func(w string) string {
			dead, taken := sumRate("lockstep_dead_letters_total", "", w), sumRate("lockstep_messages_total", "", w)
			return fmt.Sprintf("%s / (%s + %[1]s)", dead, taken)
		},
		remedy: "`lockstep dlq list` says why records are refused. Mend the producer or register the schema, then `lockstep dlq replay`.",
		good:   []series{{`lockstep_dead_letters_total{job="lockstep",instance="i",topic="t"}`, "0x%d"}, {`lockstep_messages_total{job="lockstep",instance="i",topic="t"}`, "0+600x%d"}},
		bad:    []series{{`lockstep_dead_letters_total{job="lockstep",instance="i",topic="t"}`, "0+600x%d"}, {`lockstep_messages_total{job="lockstep",instance="i",topic="t"}`, "0x%d"}},
	}, indicator{
		name: "availability", title: "Availability", budget: 1 - o.Availability, goal: fmt.Sprintf("all parts serve %s of the time", percent(o.Availability)),
		expr:   func(w string) string { return fmt.Sprintf("1 - avg_over_time(lockstep:available[%s])", w) },
		remedy: "`lockstep status` and /readyz name the part that does not serve. Start the process again if it is gone: it continues where it was.",
		good:   serving,
		bad:    []series{{`up{job="lockstep",instance="i"}`, "1x%d"}, {`lockstep_ready{job="lockstep",instance="i"}`, "0x%d"}},
	}), nil
}

func delay(name, metric, title, from string, target time.Duration) indicator {
	le := number(target.Seconds())
	bucket := func(le, samples string) series {
		return series{fmt.Sprintf(`%s_bucket{job="lockstep",instance="i",le="%s"}`, metric, le), samples}
	}
	count := series{metric + `_count{job="lockstep",instance="i"}`, "0+600x%d"}
	return indicator{
		name: name, title: title, budget: delayBudget, goal: fmt.Sprintf("%s of the records go from %s within %s", percent(1-delayBudget), from, promDuration(target)),
		expr: func(w string) string {
			// Prometheus 3 writes le="60" as le="60.0".
			return fmt.Sprintf("1 - %s / %s", sumRate(metric+"_bucket", fmt.Sprintf(`{le=~"%s|%[1]s[.]0"}`, strings.ReplaceAll(le, ".", "[.]")), w), sumRate(metric+"_count", "", w))
		},
		remedy: "Look at the dashboard Monitoring Speed Layer for the model whose steps are slow (`lockstep explain MODEL` says what a step reads), and at input rate against processing rate: above it, give the speed layer more cores or slow the producers.",
		good:   []series{bucket(le, "0+600x%d"), bucket("+Inf", "0+600x%d"), count},
		bad:    []series{bucket(le, "0x%d"), bucket("+Inf", "0+600x%d"), count},
	}
}

func sumRate(metric, selector, window string) string {
	return fmt.Sprintf("sum by (job, instance) (rate(%s%s[%s]))", metric, selector, window)
}

func bucketList() string {
	var out []string
	for _, b := range speed.Buckets {
		out = append(out, (time.Duration(b*1000) * time.Millisecond).String())
	}
	return strings.Join(out, ", ")
}

// record is the name of an indicator's recorded ratio.
func (i *indicator) record(window string) string {
	return fmt.Sprintf("lockstep:%s:ratio_%s", i.name, window)
}

func recordingRules(slis []indicator) string {
	var b strings.Builder
	b.WriteString(made)
	b.WriteString("groups:\n")
	group(&b, "lockstep", "lockstep:available", availableRule)
	fmt.Fprintf(&b, "      - record: lockstep:messages:rate_1m\n        expr: sum by (job, instance) (rate(lockstep_messages_total[1m]))\n")
	for _, s := range slis {
		fmt.Fprintf(&b, "  # %s: %s. Recorded is the share that did not.\n", s.title, s.goal)
		for n, w := range windows {
			if n == 0 {
				group(&b, "lockstep_"+s.name, s.record(w), s.expr(w))
				continue
			}
			rule(&b, s.record(w), s.expr(w))
		}
	}
	return b.String()
}

func group(b *strings.Builder, name, record, expr string) {
	fmt.Fprintf(b, "  - name: %s\n    rules:\n", name)
	rule(b, record, expr)
}

func rule(b *strings.Builder, record, expr string) {
	fmt.Fprintf(b, "      - record: %s\n        expr: %s\n", record, block(expr))
}

// block writes an expression as a YAML string in single quotes.
func block(expr string) string { return "'" + strings.ReplaceAll(expr, "'", "''") + "'" }

// burn is a pair of windows over which the budget is used up too fast, as the
// Google SRE workbook has them.
type burn struct {
	factor      float64
	long, short string
}

// serving are the series of an instance that is well.
var serving = []series{{`up{job="lockstep",instance="i"}`, "1x%d"}, {`lockstep_ready{job="lockstep",instance="i"}`, "1x%d"}}

// burnAlerts are two for each indicator: one that pages, one that waits.
func burnAlerts(slis []indicator) (out []alert) {
	fast := []burn{{14.4, "1h", "5m"}, {6, "6h", "30m"}}
	slow := []burn{{3, "1d", "2h"}, {1, "3d", "6h"}}
	for _, s := range slis {
		camel := strings.ReplaceAll(strings.Title(strings.ReplaceAll(s.name, "_", " ")), " ", "") //nolint:staticcheck // ASCII
		out = append(out,
			s.alert("Lockstep"+camel+"BurnsFast", "page", fast, "At this rate a month's error budget is gone within days.", 65),
			s.alert("Lockstep"+camel+"BurnsSlowly", "ticket", slow, "At this rate the error budget of a month does not last.", 130))
	}
	return out
}

func (i *indicator) alert(name, severity string, burns []burn, why string, minutes int) alert {
	var parts []string
	for _, b := range burns {
		// Until the short window is whole, a slow start would fill it.
		// A budget so large that no share could burn it that fast still alerts.
		limit := number(min(b.factor*i.budget, 0.9))
		parts = append(parts, fmt.Sprintf("(%s > %s and %s > %s and on (job, instance) lockstep:available offset %s)", i.record(b.long), limit, i.record(b.short), limit, b.short))
	}
	fill := func(list []series) (out []series) {
		if i.name != "availability" {
			list = append(slices.Clone(list), serving...)
		}
		for _, s := range list {
			out = append(out, series{s.name, fmt.Sprintf(s.samples, minutes)})
		}
		return out
	}
	return alert{
		name: name, severity: severity, expr: strings.Join(parts, " or "),
		summary:     i.title + ": the objective is in danger",
		description: "The objective is that " + i.goal + ". " + why,
		remedy:      i.remedy,
		value:       "{{ $value | humanizePercentage }}", wantValue: "100%",
		at: minutes, labels: map[string]string{"job": "lockstep", "instance": "i"},
		firing: fill(i.bad), quiet: fill(i.good),
	}
}
