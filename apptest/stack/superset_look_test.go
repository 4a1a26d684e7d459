//go:build stack

package stack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"lockstep/render/superset"
)

// look logs in as a person does, opens each dashboard, and wants every chart
// drawn with data, without an error. LOCKSTEP_PICTURES names a folder for
// pictures.
func (s *supersetServer) look(t *testing.T, x *site, bundle *superset.Bundle) {
	tab := openTab(t)
	tab.login(s)
	for _, d := range bundle.Dashboards {
		charts := 0
		for _, c := range bundle.Charts {
			if c.By == "" && "olist-"+strings.ReplaceAll(c.Dashboard, "_", "-") == d.Slug {
				charts++
			}
		}
		tab.visit(s.url + "/superset/dashboard/" + d.Slug + "/")
		tab.drawn(d.Title, charts)
		tab.picture("superset " + d.Slug)
		switch d.Slug {
		case "olist-sales-detail":
			tab.tabs(t)
		case "olist-delivery-monitor":
			tab.crossFilter(t, x)
		}
	}
}

// login fills the form in as a person does. The page takes its form over from
// the server some time after it shows it, and may forget what stands there: then
// it is filled in again.
func (b *browserTab) login(s *supersetServer) {
	b.t.Helper()
	for deadline := time.Now().Add(8 * time.Minute); time.Now().Before(deadline); {
		b.visit(s.url + "/login/")
		b.wait("the login page is there", `document.querySelector("input[type=password]") || !location.pathname.includes("/login")`)
		if b.soon(time.Second, `!location.pathname.includes("/login")`) {
			return
		}
		b.typed(`input[name="username"], input#username`, s.user)
		b.typed(`input[type="password"]`, s.password+"\r")
		if b.soon(20*time.Second, `!location.pathname.includes("/login")`) {
			return
		}
	}
	b.picture("failed login")
	b.t.Fatalf("the login is not done; the page says: %s", tail(b.text("document.body.innerText")))
}

// supersetCharts are the charts that are on the page.
const supersetCharts = `[...document.querySelectorAll("[data-test-chart-id]")].filter((e) => e.offsetParent)`

// drawn waits until that many charts are drawn, and finds errors.
func (b *browserTab) drawn(what string, charts int) {
	b.t.Helper()
	b.wait(what+" has its charts", fmt.Sprintf(supersetCharts+`.length >= %d`, charts))
	b.wait(what+" is drawn", supersetCharts+`.every((e) => e.querySelector("canvas, svg path, svg text, tbody tr") && !e.querySelector(".loading, [data-test=loading-indicator]")) && !window.asking`)
	if said := b.text(`[...document.querySelectorAll("[data-test-chart-id] [role=alert], .ant-alert-error, .toast--danger")].map((e) => e.innerText).join("; ")`); said != "" {
		b.t.Errorf("%s shows an error: %s", what, said)
	}
	var answers []struct {
		URL    string
		Status int
		Rows   int
	}
	b.json("window.answers", &answers)
	if len(answers) < charts {
		b.t.Errorf("%s asked for data %d times for %d charts", what, len(answers), charts)
	}
	for _, a := range answers {
		if a.Status != 200 || a.Rows == 0 {
			b.t.Errorf("%s: %s answers %d with %d rows", what, a.URL, a.Status, a.Rows)
		}
	}
}

// tabs opens each tab of a panel whose dimension can be switched.
func (b *browserTab) tabs(t *testing.T) {
	for _, name := range []string{"By category", "By product"} {
		b.click(fmt.Sprintf(`[...document.querySelectorAll("[role=tab]")].find((e) => e.innerText.trim() === %q)`, name))
		b.drawn(name, 7)
	}
	b.picture("superset by product")
}

// crossFilter holds that open orders are shown at first, in every panel, and that
// an order that is clicked is the only one in the others.
func (b *browserTab) crossFilter(t *testing.T, x *site) {
	detail := `[...document.querySelectorAll("[data-test-chart-id]")].find((e) => e.innerText.includes("Order Detail"))`
	status := `[...document.querySelectorAll("[data-test-chart-id]")].find((e) => e.innerText.includes("Delivery Status"))`
	open := `SELECT %s FROM gold.order_product_latest_group d WHERE d.order_id IN (SELECT s.order_id FROM gold.order_delivery_status s WHERE s.state IN ('late', 'at_risk', 'on_time')%s)`
	_, rows := x.ask(fmt.Sprintf(open, "count(*)", ""))
	records := detail + `.querySelector("input[placeholder*=record]").placeholder`
	b.wait("the details are of open orders", fmt.Sprintf(records+`.startsWith("%v ")`, rows[0][0]))
	_, rows = x.ask(fmt.Sprintf(open, "d.order_id, count(*) AS n", " ") + " GROUP BY d.order_id")
	items := map[string]string{}
	for _, r := range rows {
		items[fmt.Sprint(r[0])] = fmt.Sprint(r[1])
	}
	var ids []string
	b.json(`[...`+status+`.querySelectorAll("tbody tr")].map((r) => r.querySelector("td").innerText.trim())`, &ids)
	for i, id := range ids {
		if items[id] == "" {
			continue // an order without items
		}
		b.click(fmt.Sprintf(status+`.querySelectorAll("tbody tr")[%d].querySelector("td")`, i))
		b.wait("the details are of one order", fmt.Sprintf(records+`.startsWith("%s ")`, items[id]))
		b.wait("its rows are", fmt.Sprintf(`[...`+detail+`.querySelectorAll("tbody tr")].every((r) => r.innerText.includes(%q))`, id))
		b.drawn("Delivery Monitor of one order", 3)
		b.picture("superset one order")
		return
	}
	t.Errorf("no order in %q has items", ids)
}

// browserTab is a tab of a real browser.
type browserTab struct {
	t   testing.TB
	ctx context.Context
}

// counting notes each answer with data for a chart.
const counting = `window.answers = []; window.asking = 0;
const plain = window.fetch;
window.fetch = async (...a) => {
  const url = String(a[0]?.url ?? a[0]);
  if (!/chart\/data|explore_json/.test(url)) return plain(...a);
  window.asking++;
  try {
    const r = await plain(...a);
    const body = await r.clone().json().catch(() => ({}));
    const first = body.result ? body.result[0] : body;
    const data = first?.data?.features ?? first?.data ?? [];
    window.answers.push({url, status: r.status, rows: data.length});
    return r;
  } finally { window.asking--; }
};`

func openTab(t testing.TB) *browserTab {
	t.Helper()
	path := os.Getenv("CHROMIUM")
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path == "" {
			path, _ = exec.LookPath(name)
		}
	}
	if path == "" {
		unavailable(t, "no browser: apt-get install chromium, or name one in CHROMIUM")
	}
	// No name but the machine's own is found: nothing of Superset needs another.
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("enable-unsafe-swiftshader", true), chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"), chromedp.Flag("lang", "en-GB"))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	b := &browserTab{t, ctx}
	b.do(chromedp.EmulateViewport(1500, 2600)) // charts out of sight are not asked for
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: counting})
		return err
	}))
	return b
}

func (b *browserTab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatalf("cannot drive the browser: %v", err)
	}
}

func (b *browserTab) visit(url string) { b.t.Helper(); b.do(chromedp.Navigate(url)) }

func (b *browserTab) typed(selector, text string) {
	b.t.Helper()
	b.do(chromedp.SendKeys(chromedp.CSS(selector), text))
}

func (b *browserTab) try(script string) (string, error) {
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[string]("JSON.stringify("+script+") ?? 'null'"))
}

func (b *browserTab) json(script string, v any) {
	b.t.Helper()
	text, err := b.try(script)
	if err == nil {
		err = json.Unmarshal([]byte(text), v)
	}
	if err != nil {
		b.t.Fatalf("%s: %v", script, err)
	}
}

func (b *browserTab) text(script string) (s string) {
	b.t.Helper()
	b.json(script, &s)
	return s
}

func (b *browserTab) wait(what, script string) {
	b.t.Helper()
	if !b.soon(6*time.Minute, script) {
		b.picture("failed " + what)
		b.t.Fatalf("%s: not so: %s\nthe page says: %s", what, script, tail(b.text("document.body.innerText")))
	}
}

// soon tells whether that becomes true in time.
func (b *browserTab) soon(patience time.Duration, script string) bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if got, err := b.try("!!(" + script + ")"); err == nil && got == "true" {
			return true
		}
	}
	return false
}

func (b *browserTab) click(element string) {
	b.t.Helper()
	b.wait("there is "+element, element)
	var at [2]float64
	b.json(`(() => { const r = (`+element+`).getBoundingClientRect(); return [r.x + Math.min(r.width / 2, 40), r.y + r.height / 2]; })()`, &at)
	b.do(chromedp.MouseClickXY(at[0], at[1]))
}

// picture keeps a picture of the page where pictures are asked for.
func (b *browserTab) picture(name string) {
	b.t.Helper()
	dir := os.Getenv("LOCKSTEP_PICTURES")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, strings.ReplaceAll(name, " ", "_")+".png"), png, 0o644)
	}
	if err != nil {
		b.t.Errorf("cannot take a picture: %v", err)
	}
}
