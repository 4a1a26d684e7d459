package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"lockstep/examples/olist"
)

var (
	lockstep string
	browser  context.Context // nil: there is none on this machine
	shared   *instance       // with data, for all tests that only look
	scratch  string
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if scratch, err = os.MkdirTemp("", "lockstep-browser-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(scratch)
	path := chromium()
	if path == "" {
		if os.Getenv("CI") != "" {
			fmt.Fprintln(os.Stderr, "cannot find a browser: apt-get install chromium, or name one in CHROMIUM")
			return 1
		}
		return m.Run() // every test is skipped, and says so
	}
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("lang", "en-GB"))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	defer stop()
	var cancel context.CancelFunc
	browser, cancel = chromedp.NewContext(allocator)
	defer cancel()
	if err := chromedp.Do(browser); err != nil {
		fmt.Fprintf(os.Stderr, "cannot start %s: %v\n", path, err)
		return 1
	}
	if shared, err = start("shared", source()...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer shared.stop()
	if err := shared.caughtUp(3 * time.Minute); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// source is the public data where it is, else synthetic data.
func source() []string {
	if dir := os.Getenv("LOCKSTEP_DATA"); dir != "" {
		return []string{"--data", dir}
	}
	return []string{"--scale", "0.03"}
}

func chromium() string {
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil && name != "" {
			return path
		}
	}
	return ""
}

func build() error {
	if lockstep = os.Getenv("LOCKSTEP_BIN"); lockstep != "" {
		return nil
	}
	lockstep = filepath.Join(scratch, "lockstep")
	out, err := exec.Command("go", "build", "-buildvcs=false", "-tags", "duckdb_arrow", "-o", lockstep, "../../cmd/lockstep").CombinedOutput()
	if err != nil {
		return fmt.Errorf("cannot build the binary: %w\n%s", err, out)
	}
	return nil
}

// secret is the password of instances that ask for one.
const secret = "browser-secret"

// instance is a running binary on a copy of the bundled project.
type instance struct {
	process *exec.Cmd
	project string // folder
	args    []string
	state   string
	listen  string
	env     []string
	log     bytes.Buffer
}

func start(name string, args ...string) (*instance, error) { return startWith(nil, name, args...) }

func startWith(env []string, name string, args ...string) (*instance, error) {
	dir := filepath.Join(scratch, name)
	in := &instance{project: filepath.Join(dir, "project"), state: filepath.Join(dir, "state"), listen: freeAddress(), env: env}
	if err := os.CopyFS(in.project, olist.FS); err != nil {
		return nil, err
	}
	if err := writeExtra(in.project); err != nil {
		return nil, err
	}
	in.args = append([]string{"run", "--project", in.project, "--state", in.state, "--speed", "max", "--schedule", "off",
		"--listen", in.listen, "--kafka", freeAddress(), "--registry", freeAddress()}, args...)
	return in, in.launch()
}

func (in *instance) launch() error {
	in.log.Reset()
	in.process = exec.Command(lockstep, in.args...)
	in.process.Stderr = &in.log
	in.process.Env = append(os.Environ(), in.env...)
	if err := in.process.Start(); err != nil {
		return fmt.Errorf("cannot start the binary: %w", err)
	}
	return within(5*time.Minute, func() error {
		answer, err := http.Get(in.url("/readyz"))
		if err != nil {
			return fmt.Errorf("the instance does not answer: %w\n%s", err, in.log.String())
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("the instance is not ready: %s", answer.Status)
		}
		return nil
	})
}

func (in *instance) stop() {
	in.process.Process.Signal(syscall.SIGTERM)
	in.process.Wait()
}

func (in *instance) url(path string) string { return "http://" + in.listen + path }

// caughtUp waits until all of the source is served: the replay is at its end,
// all its records are in steps, and what is served stands still.
func (in *instance) caughtUp(most time.Duration) error {
	var step int64
	var since time.Time
	return within(most, func() error {
		var s struct {
			Step   int64
			Replay *struct {
				Phase string
				Total int64
			}
			Topics []struct{ Records, Lag int64 }
		}
		if err := in.get("/api/status", &s); err != nil {
			return err
		}
		var records, lag int64
		for _, t := range s.Topics {
			records, lag = records+t.Records, lag+t.Lag
		}
		if s.Step != step {
			step, since = s.Step, time.Now()
		}
		if s.Replay == nil || s.Replay.Phase != "done" || lag > 0 || records < s.Replay.Total || time.Since(since) < 5*time.Second {
			return fmt.Errorf("the source is not served whole: %d records, lag %d, step %d\n%s", records, lag, step, in.log.String())
		}
		return nil
	})
}

func (in *instance) get(path string, into any) error {
	request, err := http.NewRequest(http.MethodGet, in.url(path), nil)
	if err != nil {
		return err
	}
	request.SetBasicAuth("lockstep", secret) // not looked at where no password is set
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	return json.NewDecoder(answer.Body).Decode(into)
}

// query gives the rows of a statement as text; null is "".
func (in *instance) query(t *testing.T, sql string) [][]string {
	t.Helper()
	body, _ := json.Marshal(map[string]string{"sql": sql})
	answer, err := http.Post(in.url("/api/query"), "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("query %s: %s", sql, text)
	}
	var out struct{ Rows [][]any }
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&out); err != nil {
		t.Fatal(err)
	}
	rows := make([][]string, len(out.Rows))
	for i, r := range out.Rows {
		for _, v := range r {
			if v == nil {
				v = ""
			}
			rows[i] = append(rows[i], fmt.Sprint(v))
		}
	}
	return rows
}

// within tries f until it gives no error.
func within(most time.Duration, f func() error) error {
	deadline := time.Now().Add(most)
	for {
		err := f()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func freeAddress() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// writeExtra adds a dashboard with the states that good data does not show: a
// panel whose query fails on rows, and one without rows.
func writeExtra(project string) error {
	return os.WriteFile(filepath.Join(project, "dashboards", "states.yaml"), []byte(`title: States
position: 9
rows:
  - panels:
      - {name: failing, title: Failing, chart: table, width: 4, table: gold.fact_monthly_sales_by_product, dimensions: [category],
         measures: [{name: n, sql: sum(cast(category AS int))}]}
      - {name: empty, title: Empty, chart: bar, width: 4, table: gold.fact_monthly_sales_by_product, where: 1 = 0, dimensions: [category],
         measures: [{name: n, sql: count(*)}], encode: {x: category, y: n}}
      - {name: fine, title: Fine, chart: table, width: 4, table: gold.fact_monthly_sales_by_product, dimensions: [category], measures: [{name: n, sql: count(*)}]}
`), fs.FileMode(0o644))
}
