package browser

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"
)

// BenchmarkDashboards prints what the dashboards cost a reader: bytes until
// the first is drawn, time until then, and the time of each panel's query, as
// the browser's side sees it: cold, as after each step, and warm, as for a
// further reader of the same step. LOCKSTEP_URL names a running instance, at scale 1
// say; else it is the small one of the tests.
func BenchmarkDashboards(b *testing.B) {
	if browser == nil {
		b.Skip("no browser")
	}
	base := shared.url("")
	if url := os.Getenv("LOCKSTEP_URL"); url != "" {
		base = url
	}
	var drawn, cold, warm []time.Duration
	for range b.N {
		drawn = append(drawn, firstDraw(b, base))
		again := fmt.Sprintf("0000-%d", time.Now().UnixNano())
		cold = append(cold, panelTimes(b, base, again)...)
		warm = append(warm, panelTimes(b, base, again)...)
	}
	for _, times := range [][]time.Duration{drawn, cold, warm} {
		slices.Sort(times)
	}
	b.ReportMetric(float64(pageWeight(b, base))/1e6, "page-MB")
	b.ReportMetric(drawn[len(drawn)/2].Seconds(), "first-drawn-s")
	b.ReportMetric(float64(cold[len(cold)*95/100].Milliseconds()), "cold-p95-ms")
	b.ReportMetric(float64(cold[len(cold)/2].Milliseconds()), "cold-p50-ms")
	b.ReportMetric(float64(warm[len(warm)*95/100].Milliseconds()), "warm-p95-ms")
	b.ReportMetric(0, "ns/op")
}

// pageWeight is what travels before data: page, script, style and outline.
func pageWeight(b *testing.B, base string) (n int64) {
	page := fetch(b, base+"/dash/sales_detail", &n)
	for _, part := range []string{"dash.js", "dash.css", "icon.svg"} {
		at := bytes.Index(page, []byte("/dash/assets/"))
		fetch(b, base+string(page[at:at+len("/dash/assets/")+12])+"/"+part, &n)
	}
	fetch(b, base+"/api/dashboards/delivery_monitor/order_location/outline", &n)
	return n
}

func fetch(b *testing.B, url string, n *int64) []byte {
	request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, nil)
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("Accept-Encoding", "gzip")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		b.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		b.Fatalf("%s: %s %v", url, answer.Status, err)
	}
	*n += int64(len(text))
	return text
}

// firstDraw is the time from the request until each panel that can be seen on
// the first screen shows its rows.
func firstDraw(b *testing.B, base string) time.Duration {
	p := blank(b, &instance{listen: base[len("http://"):]})
	p.size(1440, 900)
	begin := time.Now()
	p.visit("/dash/sales_detail")
	p.wait("the first panels are drawn", `["rank_by_category", "rank_by_product"].every((n) => document.querySelector("#panel-" + n + " tbody tr")) && document.querySelector("#panel-portfolio_matrix canvas")`)
	return time.Since(begin)
}

// panelTimes asks for each panel. from is a month before all data: another one
// is another statement, which nothing was kept of.
func panelTimes(b *testing.B, base, from string) (out []time.Duration) {
	var n int64
	text := fetchPlain(b, base+"/api/dashboards", &n)
	var list listed
	if err := json.Unmarshal(text, &list); err != nil {
		b.Fatal(err)
	}
	for _, d := range list.Dashboards {
		if d.Name == "states" {
			continue
		}
		for _, r := range d.Rows {
			for _, p := range r.Panels {
				body, _ := json.Marshal(map[string]any{"dashboard": d.Name, "panel": p.Name, "filters": filtersOf(d.Name, from)})
				begin := time.Now()
				answer, err := http.Post(base+"/api/dashboards/rows", "application/json", bytes.NewReader(body))
				if err != nil {
					b.Fatal(err)
				}
				io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				took := time.Since(begin)
				if os.Getenv("LOCKSTEP_URL") != "" {
					fmt.Printf("%-40s %v\n", d.Name+"/"+p.Name, took.Round(time.Millisecond))
				}
				out = append(out, took)
			}
		}
	}
	return out
}

// filtersOf are the filters that a dashboard opens with, and the period.
func filtersOf(dashboard, from string) map[string]any {
	filters := map[string]any{"period": map[string]any{"from": from}}
	if dashboard == "delivery_monitor" {
		filters["state"] = map[string]any{"values": []string{"late", "at_risk", "on_time"}}
	}
	return filters
}

func fetchPlain(b *testing.B, url string, n *int64) []byte {
	answer, err := http.Get(url)
	if err != nil {
		b.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		b.Fatal(err)
	}
	*n += int64(len(text))
	return text
}
