package browser

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

var pages = []string{"/dash/sales_detail", "/dash/delivery_monitor", "/dash/why_sales_differ"}

// TestLook opens all pages light and dark, wide and narrow: nothing may stand
// out to the side, every panel has rows, axe finds nothing serious, and no
// request leaves the machine.
func TestLook(t *testing.T) {
	axe, err := os.ReadFile("../../web/dash/node_modules/axe-core/axe.min.js")
	if err != nil {
		t.Logf("without axe-core: run npm ci in web/dash (%v)", err)
	}
	for _, path := range pages {
		for _, scheme := range []string{"light", "dark"} {
			for _, width := range []int64{1440, 380} {
				t.Run(fmt.Sprintf("%s %s %d", path[6:], scheme, width), func(t *testing.T) { look(t, path, scheme, width, string(axe)) })
			}
		}
	}
}

func look(t *testing.T, path, scheme string, width int64, axe string) {
	p := blank(t, shared)
	p.size(width, 900)
	p.scheme(scheme)
	p.visit(path)
	p.wait("the panels are there", `document.querySelectorAll(".panel").length > 2`)
	for _, name := range eval[[]string](p, `[...document.querySelectorAll(".panel")].map((e) => e.id.replace("panel-", ""))`) {
		p.loaded(name)
		p.wait(name+" shows something", panel(name)+`.querySelector("tbody tr, .canvas canvas, .canvas svg text")`)
	}
	eval[bool](p, `(scrollTo(0, 0), true)`)
	if over := eval[int](p, `document.documentElement.scrollWidth`); int64(over) > width {
		t.Errorf("the page is %d pixels wide on a screen of %d", over, width)
	}
	p.picture(fmt.Sprintf("%s %s %d", path[6:], scheme, width))
	for _, url := range p.requests() {
		if !strings.HasPrefix(url, shared.url("")) && !strings.HasPrefix(url, "data:") && !strings.HasPrefix(url, "blob:") {
			t.Errorf("a request left: %s", url)
		}
	}
	if axe != "" {
		p.accessible(axe)
	}
}

// requests lists the addresses that the page asked for.
func (p *page) requests() []string {
	return append(eval[[]string](p, `performance.getEntriesByType("resource").map((e) => e.name)`), eval[string](p, "location.href"))
}

// accessible runs axe-core: no serious or critical finding.
func (p *page) accessible(axe string) {
	p.t.Helper()
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := chromedp.Evaluate[chromedp.Void](axe)(ctx, t)
		return err
	}))
	eval[bool](p, `(axe.run(document, {resultTypes: ["violations"]}).then((r) => { window.found = r.violations.filter((v) => ["serious", "critical"].includes(v.impact))
		.map((v) => v.id + ": " + v.help + " — " + v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160) + " " + (n.any[0]?.message || "")).join(" | ")); }), true)`)
	p.wait("axe is done", "window.found")
	for _, f := range eval[[]string](p, "window.found") {
		p.t.Errorf("axe: %s", f)
	}
}

// TestNothingInline proves the policy: what the page may load, and that no
// violation is told while it works.
func TestNothingInline(t *testing.T) {
	p := open(t, shared, "/dash/why_sales_differ")
	eval[bool](p, `(window.violations = [], addEventListener("securitypolicyviolation", (e) => window.violations.push(e.violatedDirective + " " + e.sourceFile + ":" + e.lineNumber + " " + e.blockedURI)), true)`)
	for _, name := range []string{"pareto", "quarterly_matrix", "low_reviews", "score_by_delay"} {
		p.loaded(name)
	}
	hover := `document.querySelector("#panel-score_by_delay canvas")`
	p.wait("the chart is there", hover)
	at := eval[[2]float64](p, `(() => { const r = `+hover+`.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()`)
	p.do(chromedp.MouseEvent("mouseMoved", at[0], at[1]))
	p.wait("the tooltip is there", `document.querySelector(".tip strong")?.textContent`)
	if v := eval[[]string](p, "window.violations"); len(v) > 0 {
		t.Errorf("the policy is violated: %q", v)
	}
}
