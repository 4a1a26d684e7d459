package apptest

import (
	"context"
	bin "encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// said reads from the instance's own words where a part listens.
func (p *process) said(part string) string {
	for _, line := range strings.Split(p.stderr.String(), "\n") {
		if f := strings.Fields(line); len(f) == 2 && f[0] == part {
			return f[1]
		}
	}
	p.t.Fatalf("the instance does not say where its %s is:\n%s", part, p.stderr.String())
	return ""
}

// TestOutsideProducers runs a project without raw files: another program
// produces, good records and bad ones.
func TestOutsideProducers(t *testing.T) {
	dir := t.TempDir()
	state, project := filepath.Join(dir, "state"), filepath.Join(dir, "meters")
	must(t, "init", project)
	p := start(t, state, "--project", project)
	if !strings.Contains(p.stderr.String(), "outside producers: send Avro records to the topics meter, reading") {
		t.Errorf("it does not say what it waits for:\n%s", p.stderr.String())
	}
	flags := []string{"--project", project}
	client, err := kgo.NewClient(kgo.SeedBrokers(p.said("kafka")))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	id := schemaID(t, p.said("registry"), "reading-value")
	at := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	send(t, client, reading(id, "m9", at, 10_000), reading(id, "m9", at.Add(time.Hour), 12_500), []byte("no Avro"))
	p.until("the records are served", 3*time.Minute, func() bool {
		q := query(t, state, "SELECT used_kwh FROM gold.daily_cost WHERE meter_id = 'm9'", flags...)
		return len(q.Rows) == 1 && q.Rows[0][0] == 2.5
	})
	deadLetters(t, p, state, flags)
	must(t, append([]string{"verify", "--state", state}, flags...)...)
	p.interrupt()
	if q := query(t, state, "SELECT count(*) FROM bronze.reading", flags...); q.Rows[0][0] != 2.0 {
		t.Errorf("bronze.reading has %v rows, want 2", q.Rows[0][0])
	}
}

type letter struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Reason    string `json:"reason"`
	Done      bool   `json:"done"`
	Value     []byte `json:"value"`
}

// deadLetters lists, shows and replays the one that was sent. As nothing was
// fixed, it is judged dead again.
func deadLetters(t *testing.T, p *process, state string, flags []string) {
	t.Helper()
	flags = append([]string{"--state", state}, flags...)
	list := func(more ...string) (letters []letter) {
		mustJSON(t, &letters, append(append([]string{"dlq", "list"}, more...), flags...)...)
		return letters
	}
	p.until("the bad record is a dead letter", 3*time.Minute, func() bool { return len(list()) == 1 })
	first := list("--topic", "reading")[0]
	name := fmt.Sprintf("%s/%d/%d", first.Topic, first.Partition, first.Offset)
	if first.Reason == "" || string(first.Value) != "no Avro" || first.Done {
		t.Errorf("%+v", first)
	}
	if text := must(t, append([]string{"dlq", "show", name}, flags...)...); !strings.Contains(text, first.Reason) || !strings.Contains(text, "|no Avro|") {
		t.Errorf("%s", text)
	}
	if text := must(t, append([]string{"dlq", "replay", name}, flags...)...); !strings.Contains(text, "1 dead letters") {
		t.Errorf("%s", text)
	}
	p.until("the record is judged again", 3*time.Minute, func() bool { return len(list("--done")) == 2 })
	if open := list(); len(open) != 1 || open[0].Offset == first.Offset && open[0].Partition == first.Partition {
		t.Errorf("open after the replay: %+v", open)
	}
}

func schemaID(t *testing.T, registry, subject string) uint32 {
	t.Helper()
	resp, err := http.Get(registry + "/subjects/" + subject + "/versions/latest")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var v struct{ ID uint32 }
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil || v.ID == 0 {
		t.Fatalf("%s of %s: %v %+v", resp.Status, subject, err, v)
	}
	return v.ID
}

func send(t *testing.T, client *kgo.Client, values ...[]byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, v := range values {
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: "reading", Key: []byte("m9"), Value: v}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// reading encodes a record of the starter project by hand, as no code of ours
// should have a say in it: Confluent's header, then string, optional
// milliseconds, optional decimal with three digits.
func reading(schema uint32, meter string, at time.Time, thousandths int64) []byte {
	b := bin.BigEndian.AppendUint32([]byte{0}, schema)
	b = append(bin.AppendVarint(b, int64(len(meter))), meter...)
	b = bin.AppendVarint(bin.AppendVarint(b, 1), at.UnixMilli())
	b = bin.AppendVarint(bin.AppendVarint(b, 1), 8)
	return bin.BigEndian.AppendUint64(b, uint64(thousandths))
}
