package browser

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestPanelStates shows a failing, an empty and a good panel beside each other.
func TestPanelStates(t *testing.T) {
	p := open(t, shared, "/dash/states")
	p.wait("the failing panel says why", panel("failing")+`?.querySelector("[role=alert]")?.textContent.includes("Try again")`)
	p.wait("the empty panel says so", panel("empty")+`.textContent.includes("No rows")`)
	p.loaded("fine")
	if len(p.rows("fine")) == 0 {
		t.Error("the good panel does not live on")
	}
	p.picture("states")
}

// TestReload changes a dashboard's file: a page that is open shows it, a fault
// is told with file and line, and the other dashboards live on.
func TestReload(t *testing.T) {
	p := open(t, shared, "/dash/states")
	p.loaded("fine")
	file := filepath.Join(shared.project, "dashboards", "states.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	put := func(b []byte) {
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	defer put(text)
	put(bytes.Replace(text, []byte("title: Fine"), []byte("title: Changed"), 1))
	p.wait("the new title is shown", panel("fine")+`.querySelector("h2").textContent === "Changed"`)
	put(bytes.Replace(text, []byte("count(*)"), []byte("kount(*)"), 1))
	p.wait("the fault is told", `document.body.textContent.includes("dashboards/states.yaml:7") && document.body.textContent.includes("kount")`)
	p.visit("/dash/sales_detail")
	p.loaded("rank_by_category")
}

// TestLive produces an event with a Kafka client: it must be on the screen
// within two seconds; not while the page is paused.
func TestLive(t *testing.T) {
	p := open(t, shared, "/dash/delivery_monitor")
	p.loaded("delivery_status")
	total := panel("delivery_status") + `.querySelector(".pages span").textContent.replace(/.*of/, "").replace(/\D/g, "")`
	before := eval[string](p, total)
	produce := producer(t, shared)
	produce("browser-live-1")
	begin := time.Now()
	p.waitFor(5*time.Second, "the new order is counted", total+` != `+before)
	took := time.Since(begin)
	t.Logf("an event is on the screen after %v", took)
	if took > 2*time.Second {
		t.Errorf("an event is on the screen after %v, want 2 s", took)
	}
	p.click(button(`document.querySelector(".live")`, "Pause"))
	p.wait("it says that it is paused", `document.querySelector(".live").textContent.includes("paused")`)
	before = eval[string](p, total)
	step := shared.step(t)
	produce("browser-live-2")
	if err := within(10*time.Second, func() error {
		if shared.step(t) == step {
			return fmt.Errorf("the step does not move")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1500 * time.Millisecond) // nothing may happen in it
	if after := eval[string](p, total); after != before {
		t.Errorf("a paused page went from %s to %s", before, after)
	}
	p.click(button(`document.querySelector(".live")`, "Pause"))
	p.wait("it goes on", total+` != `+before)
}

// TestLiveKeepsChoices keeps filters, page and level while rows come in.
func TestLiveKeepsChoices(t *testing.T) {
	p := open(t, shared, "/dash/delivery_monitor?q.delivery_status=browser-keep&state=late&state=at_risk&state=on_time&state=closed")
	p.loaded("delivery_status")
	produce := producer(t, shared)
	for i := range 3 {
		id := fmt.Sprintf("browser-keep-%d", i)
		produce(id)
		p.wait("the new order comes under the same search", `[...`+panel("delivery_status")+`.querySelectorAll("tbody tr")].length === `+fmt.Sprint(i+1))
	}
	if q := p.query(); !strings.Contains(q, "q.delivery_status=browser-keep") || !strings.Contains(q, "state=closed") {
		t.Errorf("the choices are gone: %s", q)
	}
	if v := eval[string](p, panel("delivery_status")+`.querySelector("input").value`); v != "browser-keep" {
		t.Errorf("the search box holds %q", v)
	}
}

// TestLostConnection stops the instance under an open page and starts it again.
func TestLostConnection(t *testing.T) {
	if browser == nil {
		t.Skip("no browser")
	}
	in, err := start("lost", "--scale", "0.001")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { in.stop() }()
	if err := in.caughtUp(5 * time.Minute); err != nil {
		t.Fatal(err)
	}
	p := open(t, in, "/dash/delivery_monitor")
	p.loaded("delivery_status")
	begin := time.Now()
	in.stop()
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the instance needs %v to stop while a page listens", took)
	}
	p.wait("it says that the connection is lost", `document.body.textContent.includes("connection is lost")`)
	if eval[int](p, panel("delivery_status")+`.querySelectorAll("tbody tr").length`) == 0 {
		t.Error("the rows are gone with the connection")
	}
	p.picture("lost")
	if err := in.launch(); err != nil {
		t.Fatal(err)
	}
	p.wait("it is connected again", `!document.body.textContent.includes("connection is lost") && document.querySelector(".pulse").textContent.includes("live")`)
}

func (in *instance) step(t *testing.T) int64 {
	t.Helper()
	var s struct{ Step int64 }
	if err := in.get("/api/status", &s); err != nil {
		t.Fatal(err)
	}
	return s.Step
}

// addresses tells where the parts listen.
func (in *instance) addresses(t *testing.T) map[string]string {
	t.Helper()
	var s struct {
		Addresses []struct{ Name, Addr string }
	}
	if err := in.get("/api/status", &s); err != nil {
		t.Fatal(err)
	}
	at := map[string]string{}
	for _, a := range s.Addresses {
		at[a.Name] = a.Addr
	}
	return at
}

// producer gives a function that sends the purchase of an order, dated a day
// ahead of all data so that it is open.
func producer(t *testing.T, in *instance) func(order string) {
	t.Helper()
	at := in.addresses(t)
	answer, err := http.Get(at["registry"] + "/subjects/order_status-value/versions/latest")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var schema struct{ ID uint32 }
	if err := json.NewDecoder(answer.Body).Decode(&schema); err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(at["kafka"]))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	when := time.Date(2018, 10, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	return func(order string) {
		t.Helper()
		value := binary.BigEndian.AppendUint32([]byte{0}, schema.ID)
		value = appendText(value, order)
		value = appendText(append(value, 2), "purchase")
		value = binary.AppendVarint(append(value, 2), when)
		value = binary.AppendVarint(append(value, 2), when+60)
		record := &kgo.Record{Topic: "order_status", Key: []byte(order), Value: value}
		if err := client.ProduceSync(t.Context(), record).FirstErr(); err != nil {
			t.Fatalf("cannot produce: %v", err)
		}
	}
}

// appendText writes a string as Avro does.
func appendText(b []byte, s string) []byte {
	return append(binary.AppendVarint(b, int64(len(s))), s...)
}
