package project

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Objectives are the service levels that alerts watch. 99 of 100 records meet
// the two delays.
type Objectives struct {
	BronzeToSilver time.Duration // from bronze to queries that see the record in silver and gold
	Freshness      time.Duration // from the log to queries
	Lag            time.Duration // longest time that a record of the log may wait
	Stalled        time.Duration // how long no step may come while records wait
	ErrorRate      float64       // highest share of dead letters
	Availability   float64       // lowest share of the time that all parts serve
}

// DefaultObjectives hold where project.yaml names no others.
var DefaultObjectives = Objectives{BronzeToSilver: 10 * time.Minute, Freshness: time.Minute, Lag: 10 * time.Minute, Stalled: 5 * time.Minute,
	ErrorRate: 0.01, Availability: 0.99}

type objectivesYAML struct {
	BronzeToSilver string `yaml:"bronze_to_silver"`
	Freshness      string `yaml:"freshness"`
	Lag            string `yaml:"lag"`
	Stalled        string `yaml:"stalled"`
	ErrorRate      string `yaml:"error_rate"`
	Availability   string `yaml:"availability"`
}

// objectives reads the slos of project.yaml.
func (l *loader) objectives(file string, y objectivesYAML) Objectives {
	o := DefaultObjectives
	fault := func(key, text string, err error) {
		l.problems.Add(file, 0, `write a duration such as "10m", or a share such as "1%"`, "slos.%s: %q cannot be used: %v", key, text, err)
	}
	for _, d := range []struct {
		key, text string
		into      *time.Duration
	}{{"bronze_to_silver", y.BronzeToSilver, &o.BronzeToSilver}, {"freshness", y.Freshness, &o.Freshness}, {"lag", y.Lag, &o.Lag}, {"stalled", y.Stalled, &o.Stalled}} {
		if d.text == "" {
			continue
		}
		v, err := time.ParseDuration(d.text)
		if err == nil && v <= 0 {
			err = fmt.Errorf("it must be above 0")
		}
		if *d.into = v; err != nil {
			fault(d.key, d.text, err)
		}
	}
	for _, s := range []struct {
		key, text string
		into      *float64
	}{{"error_rate", y.ErrorRate, &o.ErrorRate}, {"availability", y.Availability, &o.Availability}} {
		if s.text == "" {
			continue
		}
		v, err := share(s.text)
		if *s.into = v; err != nil {
			fault(s.key, s.text, err)
		}
	}
	return o
}

// share reads 0.01 or 1%.
func share(text string) (float64, error) {
	number, percent := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil {
		return 0, fmt.Errorf("it is no number")
	}
	if percent {
		v /= 100
	}
	if !(v > 0 && v < 1) {
		return 0, fmt.Errorf("it must be above 0 and below 1")
	}
	return v, nil
}
