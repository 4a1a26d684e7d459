package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// page is a tab.
type page struct {
	t   testing.TB
	in  *instance
	ctx context.Context
}

// open opens an address in a new tab of a wide, light screen.
func open(t testing.TB, in *instance, path string) *page {
	t.Helper()
	p := blank(t, in)
	p.size(1440, 900)
	p.visit(path)
	return p
}

func blank(t testing.TB, in *instance) *page {
	t.Helper()
	if browser == nil {
		t.Skip("no browser: apt-get install chromium, or name one in CHROMIUM")
	}
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	// The tab lives as long as the context of its first action.
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("cannot open a tab: %v", err)
	}
	p := &page{t: t, in: in, ctx: ctx}
	return p
}

func (p *page) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.t.Fatalf("cannot drive the browser: %v", err)
	}
}

func (p *page) visit(path string) { p.t.Helper(); p.do(chromedp.Navigate(p.in.url(path))) }

func (p *page) size(width, height int64) {
	p.t.Helper()
	p.do(chromedp.EmulateViewport(width, height))
}

func (p *page) scheme(name string) {
	p.t.Helper()
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
		return err
	}))
}

// eval gives what a script gives, which must be JSON.
func eval[T any](p *page, script string) T {
	p.t.Helper()
	v, err := tryEval[T](p, script)
	if err != nil {
		p.t.Fatalf("%s: %v", script, err)
	}
	return v
}

func tryEval[T any](p *page, script string) (v T, err error) {
	ctx, cancel := context.WithTimeout(p.ctx, 20*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("JSON.stringify("+script+") ?? 'null'"))
	if err == nil {
		err = json.Unmarshal([]byte(text), &v)
	}
	return v, err
}

// wait waits until a script gives true.
func (p *page) wait(what, script string) {
	p.t.Helper()
	p.waitFor(20*time.Second, what, script)
}

func (p *page) waitFor(most time.Duration, what, script string) {
	p.t.Helper()
	err := within(most, func() error {
		ok, err := tryEval[bool](p, "!!("+script+")")
		if err == nil && !ok {
			err = fmt.Errorf("not so: %s", script)
		}
		return err
	})
	if err != nil {
		p.picture("failed " + what)
		p.t.Fatalf("%s: %v\nthe page says: %s", what, err, head(eval[string](p, "document.body.innerText")))
	}
}

func head(s string) string {
	if len(s) > 1500 {
		return s[:1500] + "..."
	}
	return s
}

// click clicks what the script gives, in the middle, as a mouse does, once it
// stands still.
func (p *page) click(element string) {
	p.t.Helper()
	p.wait("there is "+element, element)
	where := `(() => { const e = ` + element + `; e.scrollIntoView({block: "center", inline: "center"}); const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()`
	at := eval[[2]float64](p, where)
	for range 40 {
		time.Sleep(50 * time.Millisecond)
		now := eval[[2]float64](p, where)
		if now == at {
			break
		}
		at = now
	}
	p.do(chromedp.MouseClickXY(at[0], at[1]))
}

// button is the button with a text inside of an element.
func button(inside, text string) string {
	return fmt.Sprintf(`[...(%s).querySelectorAll("button")].find((b) => b.textContent.trim() === %q || b.getAttribute("aria-label") === %q)`, inside, text, text)
}

func panel(name string) string { return fmt.Sprintf(`document.getElementById("panel-%s")`, name) }

// loaded waits until the panel shows rows of its present request.
func (p *page) loaded(name string) {
	p.t.Helper()
	p.wait("there is the panel "+name, panel(name))
	eval[bool](p, `(`+panel(name)+`.scrollIntoView({block: "center"}), true)`)
	p.wait("the panel "+name+" has rows", panel(name)+`.dataset.step && `+panel(name)+`.dataset.fresh === "true"`)
}

// rows gives the values of the table of a panel, as the page got them.
func (p *page) rows(name string) [][]string {
	p.t.Helper()
	p.loaded(name)
	return eval[[][]string](p, `[...`+panel(name)+`.querySelectorAll("tbody tr")].map((r) => [...r.querySelectorAll("td[data-value]")].map((d) => d.dataset.value))`)
}

// query is the part of the address behind the question mark.
func (p *page) query() string { return eval[string](p, "decodeURIComponent(location.search)") }

// picture keeps a picture of the whole page where pictures are asked for.
func (p *page) picture(name string) {
	p.t.Helper()
	dir := os.Getenv("LOCKSTEP_PICTURES")
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, strings.ReplaceAll(name, " ", "_")+".png"), png, 0o644)
	}
	if err != nil {
		p.t.Errorf("cannot take a picture: %v", err)
	}
}

// download clicks and gives the file that comes: its name and its bytes.
func (p *page) download(element string) (string, []byte) {
	p.t.Helper()
	dir := p.t.TempDir()
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, cdpbrowser.SetDownloadBehavior, cdpbrowser.SetDownloadBehaviorParams{Behavior: cdpbrowser.SetDownloadBehaviorBehaviorAllow, DownloadPath: dir})
		return err
	}))
	p.click(element)
	var name string
	err := within(15*time.Second, func() error {
		files, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, f := range files {
			if !strings.HasSuffix(f.Name(), ".crdownload") && !strings.HasPrefix(f.Name(), ".") {
				name = f.Name()
				return nil
			}
		}
		return fmt.Errorf("no file came of %s", element)
	})
	if err != nil {
		p.t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		p.t.Fatal(err)
	}
	return name, text
}
