package browser

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/chromedp"
)

// manyPoints is a map of 100,000 places, no two the same.
const manyPoints = `title: Points
position: 8
rows:
  - height: 700
    panels:
      - name: points
        title: Points
        chart: map
        width: 12
        query: >
          SELECT p.n, CASE WHEN p.n % 2 = 0 THEN 'even' ELSE 'odd' END AS side, -70.0 + (p.n % 400) * 0.08 AS lng, -32.0 + floor(p.n / 400) * 0.14 AS lat
          FROM (
            SELECT row_number() OVER (ORDER BY a.order_id, b.order_id) AS n
            FROM gold.fact_order_lead_days a
            CROSS JOIN (SELECT o.order_id FROM gold.fact_order_lead_days o ORDER BY o.order_id LIMIT 60) b
          ) p
          WHERE p.n <= 100000
        dimensions: [lng, lat, side, n]
        encode: {lng: lng, lat: lat, color: side, label: n}
        limit: 200000
        builtin: {outline: dashboards/brazil.json}
`

// smooth is the CPU time of the page's thread that a frame may take: 20 frames
// a second on a thread that does nothing else. The time on the clock would tell
// of the machine's other work.
const smooth = 0.050

// TestMapOfManyPoints zooms and moves a map of 100,000 points, a step in each
// frame.
func TestMapOfManyPoints(t *testing.T) {
	if shared == nil {
		t.Skip("no browser")
	}
	if err := os.WriteFile(filepath.Join(shared.project, "dashboards", "points.yaml"), []byte(manyPoints), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(filepath.Join(shared.project, "dashboards", "points.yaml")) })
	p := open(t, shared, "/dash/points")
	p.wait("the dashboard is known", `document.querySelector("#panel-points")`)
	p.loaded("points")
	p.wait("the points are drawn", `document.querySelector("#panel-points .canvas")?.chart?.getOption().series?.reduce((n, s) => n + (s.data?.length || s.data?.byteLength || 0), 0) > 10000`)
	for _, move := range []struct{ name, script string }{
		{"move", `chart.dispatchAction({type: "geoRoam", componentType: "geo", geoIndex: 0, dx: i < 20 ? 8 : -8, dy: 4})`},
		{"zoom", `box.dispatchEvent(new WheelEvent("wheel", {deltaY: i < 20 ? -100 : 100, clientX: r.x + r.width / 2, clientY: r.y + r.height / 2, bubbles: true, cancelable: true}))`},
	} {
		before := p.threadTime()
		eval[bool](p, `((async () => {
			window.moved = null;
			const chart = document.querySelector("#panel-points .canvas").chart, box = chart.getZr().painter.getViewportRoot().querySelector("canvas"), r = box.getBoundingClientRect();
			const times = [];
			for (let i = 0, last = performance.now(); i < 40; i++) {
				`+move.script+`;
				await new Promise(requestAnimationFrame);
				times.push(performance.now() - last); last = performance.now();
			}
			window.moved = times.sort((a, b) => a - b);
		})(), true)`)
		p.wait("it has moved", "window.moved")
		cpu := (p.threadTime() - before) / 40
		times := eval[[]float64](p, "window.moved")
		t.Logf("%s: %.0f ms of CPU a frame; on the clock %.0f ms in the middle, %.0f ms at most", move.name, cpu*1000, times[20], times[39])
		if cpu > smooth {
			t.Errorf("%s: a frame of 100,000 points takes %.0f ms of CPU, more than %.0f", move.name, cpu*1000, smooth*1000)
		}
	}
	p.picture("points")
}

// threadTime is the CPU time that the page's thread has spent on tasks, in
// seconds.
func (p *page) threadTime() (seconds float64) {
	p.t.Helper()
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		if _, err := cdp.Call(ctx, t, performance.Enable, performance.EnableParams{TimeDomain: performance.EnableTimeDomainThreadTicks}); err != nil {
			return err
		}
		got, err := cdp.Call(ctx, t, performance.GetMetrics, cdp.Empty{})
		if err != nil {
			return err
		}
		for _, m := range got.Metrics {
			if m.Name == "TaskDuration" {
				seconds = m.Value
			}
		}
		return nil
	}))
	return seconds
}
