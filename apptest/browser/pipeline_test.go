package browser

import (
	"fmt"
	"os"
	"testing"
)

// TestPipeline looks at the graph and at what a node tells.
func TestPipeline(t *testing.T) {
	axe, _ := os.ReadFile("../../web/dash/node_modules/axe-core/axe.min.js")
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{1440, 380} {
			t.Run(fmt.Sprintf("%s %d", scheme, width), func(t *testing.T) { pipeline(t, scheme, width, string(axe)) })
		}
	}
}

func pipeline(t *testing.T, scheme string, width int64, axe string) {
	p := blank(t, shared)
	p.size(width, 900)
	p.scheme(scheme)
	p.visit("/pipeline")
	var graph struct {
		Nodes []struct{ Name string }
	}
	if err := shared.get("/api/graph", &graph); err != nil {
		t.Fatal(err)
	}
	p.wait("each node is drawn", fmt.Sprintf(`document.querySelectorAll(".graph .node").length === %d`, len(graph.Nodes)))
	rows := shared.query(t, "SELECT count(*) FROM gold.fact_order_detail")[0][0]
	node := `document.querySelector(".graph .node[data-name='gold.fact_order_detail']")`
	p.wait("the node tells its rows", node+`?.querySelector(".figure").textContent.replace(/\D/g, "").startsWith("`+rows+`")`)
	p.click(node)
	about := `document.querySelector("[aria-label='About gold.fact_order_detail']")`
	p.wait("its columns are told", about+`?.textContent.includes("Customer account of the order's latest payment")`)
	for _, part := range []string{"How changes travel", "SQL", "Rows"} {
		p.click(`[...` + about + `.querySelectorAll("summary")].find((s) => s.textContent === "` + part + `")`)
	}
	p.wait("rows are shown", about+`.querySelectorAll("[aria-label='Rows of gold.fact_order_detail'] tbody tr").length === 20`)
	if over := eval[int](p, `document.documentElement.scrollWidth`); int64(over) > width {
		t.Errorf("the page is %d pixels wide on a screen of %d", over, width)
	}
	if button := eval[int](p, `[...document.querySelectorAll("button")].filter((b) => ["Roll back", "Release", "Replay all"].includes(b.textContent)).length`); button > 0 {
		t.Error("without a password the page offers to change the state")
	}
	p.picture(fmt.Sprintf("pipeline %s %d", scheme, width))
	if axe != "" {
		p.accessible(axe)
	}
}
