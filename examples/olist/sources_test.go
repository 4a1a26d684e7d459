package olist_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"

	"lockstep/project"
	"lockstep/replay"
)

// sample is the folder with a tenth of the public data, and the figures that
// were computed from it independently.
func sample(t *testing.T) (data, expected string) {
	t.Helper()
	root := os.Getenv("LOCKSTEP_DATA")
	if root == "" {
		root = "../../../shared/data"
	}
	data = filepath.Join(root, "olist10k")
	if _, err := os.Stat(data); err != nil {
		t.Skipf("the sample data is not here (set LOCKSTEP_DATA to its folder): %v", err)
	}
	return data, filepath.Join(root, "olist10k_expected.json")
}

func open(t *testing.T, c replay.Config) *replay.Events {
	t.Helper()
	p, err := project.Load(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	c.Project, c.WorkDir = p, t.TempDir()
	events, err := replay.Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { events.Close() })
	return events
}

// text is the value of a column of an event.
func text(ev *replay.Event, column string) string {
	return ev.Batch.Column(ev.Batch.Schema().FieldIndices(column)[0]).(*array.String).Value(ev.Row)
}

func number(ev *replay.Event, column string) float64 {
	return ev.Batch.Column(ev.Batch.Schema().FieldIndices(column)[0]).(*array.Float64).Value(ev.Row)
}

// TestSampleEvents compares the events of the sample with what is known of
// it: order_status by status as computed elsewhere, the other topics against
// the files.
func TestSampleEvents(t *testing.T) {
	data, expectedFile := sample(t)
	events := open(t, replay.Config{Data: data})
	var expected struct {
		OrderStatus map[string]int `json:"order_status"`
		Places      int            `json:"geo_coord"`
		Users       int            `json:"olist_user"`
	}
	readJSON(t, expectedFile, &expected)

	counts, statuses := map[string]int{}, map[string]int{}
	places := map[string]bool{}
	users, last := map[string]bool{}, int64(math.MinInt64)
	var ev replay.Event
	for {
		more, err := events.Next(&ev)
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			break
		}
		if ev.Time < last {
			t.Fatalf("event %d of topic %s goes back in time", ev.Ordinal, ev.Source.Topic)
		}
		last = ev.Time
		counts[ev.Source.Topic]++
		switch ev.Source.Topic {
		case "order_status":
			statuses[text(&ev, "status")]++
		case "geolocation":
			lat, lng := number(&ev, "lat"), number(&ev, "lng")
			if -33.76 <= lat && lat <= 5.28 && -74.00 <= lng && lng <= -28.83 {
				places[ev.Key] = true
			}
		case "customer", "seller":
			users[ev.Source.Topic+ev.Key] = true
		}
	}
	for status, n := range expected.OrderStatus {
		if statuses[status] != n {
			t.Errorf("order_status %s: %d events, want %d", status, statuses[status], n)
		}
	}
	for topic, n := range map[string]int{"order_item": 11532, "payment": 10463, "review": 10015, "estimated_delivery_date": 10048, "customer": 10048} {
		if counts[topic] != n {
			t.Errorf("topic %s: %d events, want %d", topic, counts[topic], n)
		}
	}
	if len(places) != expected.Places {
		t.Errorf("%d postal codes with coordinates inside Brazil, want %d", len(places), expected.Places)
	}
	if len(users) != expected.Users {
		t.Errorf("%d customers and sellers, want %d", len(users), expected.Users)
	}
	t.Log(counts, statuses)
}

func readJSON(t *testing.T, file string, into any) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}
