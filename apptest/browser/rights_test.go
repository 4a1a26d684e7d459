package browser

import (
	"context"
	"encoding/base64"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestRights opens the Pipeline page of an instance with a password: there a
// dead letter can be replayed, and an earlier manifest served and released.
func TestRights(t *testing.T) {
	if browser == nil {
		t.Skip("no browser")
	}
	in, err := startWith([]string{"LOCKSTEP_PASSWORD=" + secret}, "rights", "--scale", "0.001")
	if err != nil {
		t.Fatal(err)
	}
	defer in.stop()
	if err := in.caughtUp(5 * time.Minute); err != nil {
		t.Fatal(err)
	}
	batch(t, in)
	poison(t, in)
	p := blank(t, in)
	p.size(1440, 900)
	p.do(chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		if _, err := cdp.Call(ctx, tab, network.Enable, network.EnableParams{}); err != nil {
			return err
		}
		login := "Basic " + base64.StdEncoding.EncodeToString([]byte("lockstep:"+secret))
		_, err := cdp.Call(ctx, tab, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Authorization": login}})
		return err
	}))
	p.visit("/pipeline")
	node := `document.querySelector(".graph .node[data-name='topic order_status']")`
	p.wait("the node tells its dead letter", node+`?.classList.contains("alarm") && `+node+`.textContent.includes("1 dead")`)
	eval[bool](p, `(window.confirm = () => true, true)`)
	p.click(node)
	about := `document.querySelector("[aria-label='About topic order_status']")`
	p.wait("its columns are told", about+`?.textContent.includes("Columns")`)
	p.click(`[...` + about + `.querySelectorAll("summary")].find((s) => s.textContent.startsWith("Dead letters"))`)
	p.click(button(about, "Replay"))
	p.wait("it was sent again", about+`.textContent.includes("1 sent again")`)
	batch(t, in)
	history := `document.querySelector("[aria-label=History]")`
	p.wait("both manifests are listed", history+`.querySelectorAll("tbody tr").length >= 2`)
	p.click(button(history, "Roll back"))
	p.wait("an earlier one is served, and it says so", `document.querySelector(".banner.warn")?.textContent.includes("rolled back to manifest 1")`)
	p.picture("rolled back")
	p.click(button(history, "Release"))
	p.wait("the newest is served again", `!document.querySelector(".banner.warn")`)
}

// batch runs a batch by the command line.
func batch(t *testing.T, in *instance) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), lockstep, "batch", "--project", in.project, "--state", in.state).CombinedOutput()
	if err != nil {
		t.Fatalf("cannot run a batch: %v\n%s", err, out)
	}
}

// poison sends a record that is no Avro.
func poison(t *testing.T, in *instance) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(in.addresses(t)["kafka"]))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	record := &kgo.Record{Topic: "order_status", Key: []byte("poison"), Value: []byte("not Avro")}
	if err := client.ProduceSync(t.Context(), record).FirstErr(); err != nil {
		t.Fatalf("cannot produce: %v", err)
	}
}
