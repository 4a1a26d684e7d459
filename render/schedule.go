package render

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// schedule is a schedule of project.yaml, taken apart for schedulers that know
// no "@every".
type schedule struct {
	every    time.Duration // "@every 5m"; 0: see cron
	cron     string        // five fields; empty with every 0: only by command
	timezone string        // of cron
}

var descriptors = map[string]string{
	"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
	"@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}

func parseSchedule(text string) (s schedule, err error) {
	if text == "" {
		return s, nil
	}
	if _, err := cron.ParseStandard(text); err != nil {
		return s, fmt.Errorf("cannot use batch.schedule %q of project.yaml: %w: write a cron expression or \"@every 5m\"", text, err)
	}
	s.timezone = "UTC"
	if zone, rest, has := strings.Cut(text, " "); has && strings.Contains(zone, "TZ=") {
		_, s.timezone, _ = strings.Cut(zone, "=")
		text = strings.TrimSpace(rest)
	}
	if every, ok := strings.CutPrefix(text, "@every "); ok {
		s.every, err = time.ParseDuration(strings.TrimSpace(every))
		return s, err
	}
	s.cron = text
	if fields, ok := descriptors[text]; ok {
		s.cron = fields
	}
	s.cron = strings.ReplaceAll(s.cron, "?", "*")
	return s, nil
}

// longest is the longest time between two batches; 0: there is no schedule.
func (s schedule) longest() time.Duration {
	if s.every > 0 || s.cron == "" {
		return s.every
	}
	when, err := cron.ParseStandard(s.cron)
	if err != nil {
		return 0
	}
	longest := time.Duration(0)
	at := when.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)) // a fixed start: the result is always the same
	for range 400 {
		next := when.Next(at)
		if next.IsZero() {
			break
		}
		longest = max(longest, next.Sub(at))
		at = next
	}
	return longest
}

// promDuration writes a duration as Prometheus reads it: its largest unit that
// divides it.
func promDuration(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if d >= u.unit && d%u.unit == 0 {
			return fmt.Sprintf("%d%s", d/u.unit, u.name)
		}
	}
	return fmt.Sprintf("%dms", d.Milliseconds())
}

// number writes a float as Prometheus and people read it.
func number(v float64) string {
	return strconv.FormatFloat(math.Round(v*1e9)/1e9, 'f', -1, 64)
}

// percent writes a share: 0.01 is 1 %.
func percent(v float64) string { return strconv.FormatFloat(v*100, 'g', 6, 64) + " %" }
