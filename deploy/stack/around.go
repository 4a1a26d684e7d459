package stack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Lockstep itself, and what stands around it. The files that these tools read are
// made by `lockstep render`, either here, by the program of Options.Lockstep, or
// beforehand, in Options.Rendered: folders prometheus, grafana and airflow.

func (s *Stack) product() []part {
	return []part{s.lockstep("lockstep-speed", "speed"), s.lockstep("lockstep-serve", "serve")}
}

// lockstep is a verb of the product that goes on. Both share a state folder.
func (s *Stack) lockstep(name, verb string) part {
	return part{name: name, port: name, wave: 6, within: 5 * time.Minute, grace: 2 * time.Minute,
		start: func() (process, error) {
			if s.state.Lockstep == "" {
				return process{}, errors.New("name the lockstep program: --lockstep bin/lockstep")
			}
			return process{path: s.state.Lockstep, env: s.Env(),
				args: []string{verb, "--env", "cluster", "--state", s.path("lockstep"), "--listen", s.addr(name)}}, nil
		},
		ready: func(ctx context.Context) error { return get(ctx, s.url(name, "/healthz")) },
	}
}

// Lockstep runs the product's program on the stack to its end, and gives its output.
func (s *Stack) Lockstep(ctx context.Context, args ...string) (string, error) {
	if s.state.Lockstep == "" {
		return "", errors.New("cannot run lockstep: the stack was started without --lockstep")
	}
	cmd := exec.CommandContext(ctx, s.state.Lockstep, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = grace
	cmd.Env = append(append(os.Environ(), s.Env()...), "SUPERSET_PASSWORD="+s.Config.Access.AdminPassword)
	var text, faults strings.Builder
	cmd.Stdout, cmd.Stderr = &text, &faults
	if err := cmd.Run(); err != nil {
		return text.String(), fmt.Errorf("lockstep %s: %w\n%s", strings.Join(args, " "), err, strings.TrimSpace(faults.String()))
	}
	return text.String(), nil
}

// onCluster adds the flags by which commands find the stack's instance.
func (s *Stack) onCluster(args ...string) []string {
	return append(args, "--env", "cluster", "--state", s.path("lockstep"))
}

// Fill replays data into the stack, waits until the stream has it all, publishes
// a batch, and gives Superset its dashboards if it runs. source are flags of
// `lockstep replay`, such as --scale 0.05.
func (s *Stack) Fill(ctx context.Context, source []string) error {
	s.log.Info("replaying", "source", strings.Join(source, " "))
	if _, err := s.Lockstep(ctx, s.onCluster(append([]string{"replay", "--speed", "max"}, source...)...)...); err != nil {
		return fmt.Errorf("cannot fill the stack: %w", err)
	}
	if err := s.caughtUp(ctx); err != nil {
		return fmt.Errorf("cannot fill the stack: %w", err)
	}
	s.log.Info("publishing a batch")
	if _, err := s.Lockstep(ctx, s.onCluster("batch")...); err != nil {
		return fmt.Errorf("cannot fill the stack: %w", err)
	}
	if !s.has(Superset) {
		return nil
	}
	s.log.Info("giving Superset its dashboards")
	if _, err := s.Lockstep(ctx, "superset", "push", "--url", s.url("superset", ""), "--user", s.Config.Access.Admin, "--database-uri", s.thriftURI()); err != nil {
		return fmt.Errorf("cannot fill Superset: %w", err)
	}
	return nil
}

func (s *Stack) thriftURI() string { return "hive://lockstep@" + s.addr("thrift") + "/gold" }

// caughtUp waits until the stream has taken every record of the log.
func (s *Stack) caughtUp(ctx context.Context) error {
	const patience = 30 * time.Minute
	deadline := time.Now().Add(patience)
	for {
		var st struct {
			Topics []struct{ Records, Lag int64 }
		}
		text, err := s.Lockstep(ctx, s.onCluster("status", "--json")...)
		if err == nil {
			err = json.Unmarshal([]byte(text), &st)
		}
		var records, lag int64
		for _, t := range st.Topics {
			records, lag = records+t.Records, lag+t.Lag
		}
		if err == nil && records > 0 && lag == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the stream has not taken all records within %s: %d taken, %d wait; %w", patience, records, lag, errors.Join(err, errors.New("see "+s.logFile("lockstep-speed"))))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Second):
		}
	}
}

// rendered is a file that `lockstep render` made.
func (s *Stack) rendered(elements ...string) string {
	if s.state.Rendered != "" {
		return filepath.Join(append([]string{s.state.Rendered}, elements...)...)
	}
	return s.path(append([]string{"rendered"}, elements...)...)
}

// render makes the files of the tools that are asked for.
func (s *Stack) render(ctx context.Context) error {
	if s.state.Rendered != "" || !s.has(Monitoring) && !s.has(Airflow) {
		return nil
	}
	var commands [][]string
	if s.has(Monitoring) {
		var kafka []string
		for n := 1; n <= kafkaNodes; n++ {
			kafka = append(kafka, s.addr(nodeName(n)+"-jmx"))
		}
		commands = append(commands, []string{"render", "prometheus", s.rendered("prometheus"), "--kafka", strings.Join(kafka, ","), "--minio", s.addr("minio"),
			"--lockstep", s.addr("lockstep-speed") + "," + s.addr("lockstep-serve"), "--alertmanager", s.addr("alertmanager"),
			"--spark", strings.Join([]string{s.addr("spark-master-ui"), s.addr("spark-worker-ui"), s.addr("thrift-ui"), s.addr("stream-ui")}, ",")},
			[]string{"render", "grafana", s.rendered("grafana"), "--prometheus-url", s.url("prometheus", "")})
	}
	if s.has(Airflow) {
		commands = append(commands, s.onCluster("render", "airflow", s.rendered("airflow"), "--binary", s.state.Lockstep))
	}
	for _, c := range commands {
		if _, err := s.Lockstep(ctx, c...); err != nil {
			return fmt.Errorf("cannot render: %w; or name a folder of rendered files in --rendered", err)
		}
	}
	return nil
}

func (s *Stack) prometheus() part {
	return part{name: "prometheus", port: "prometheus", wave: 7, within: time.Minute,
		start: func() (process, error) {
			return process{path: s.cached("deb", "prometheus", "usr", "bin", "prometheus"), args: []string{
				"--config.file=" + s.rendered("prometheus", "prometheus.yml"), "--storage.tsdb.path=" + s.path("prometheus"),
				"--web.listen-address=" + s.addr("prometheus"), "--storage.tsdb.retention.time=15d"}}, nil
		},
		ready: func(ctx context.Context) error { return get(ctx, s.url("prometheus", "/-/ready")) },
	}
}

// alertmanager reads a template of its package by an absolute path, which an
// overlay in a name space of its own provides.
func (s *Stack) alertmanager() part {
	const script = `test -e /usr/share/prometheus/alertmanager/default.tmpl || mount -t overlay overlay -o lowerdir="$0/share:/usr/share" /usr/share
exec "$0/bin/prometheus-alertmanager" "$@"`
	return part{name: "alertmanager", port: "alertmanager", wave: 7, within: time.Minute,
		start: func() (process, error) {
			unshare, err := exec.LookPath("unshare")
			args := []string{"-m"}
			if os.Geteuid() != 0 {
				args = []string{"-r", "-m"}
			}
			return process{path: unshare, args: append(args, "sh", "-c", script, s.cached("deb", "prometheus-alertmanager", "usr"),
				"--config.file="+s.rendered("prometheus", "alertmanager.yml"), "--storage.path="+s.path("alertmanager"),
				"--web.listen-address="+s.addr("alertmanager"), "--cluster.listen-address=")}, err
		},
		ready: func(ctx context.Context) error { return get(ctx, s.url("alertmanager", "/-/ready")) },
	}
}

// database gives a new SQLite database from the cache, where one of the same
// packages is kept: making it costs minutes.
func (s *Stack) database(name, path string, make func() error) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	text, err := json.Marshal([]any{s.Config.Python[name], s.Config.Access})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	kept := s.cached(fmt.Sprintf("%s-database-%s.db", name, hex.EncodeToString(sum[:6])))
	data, err := os.ReadFile(kept)
	if err == nil {
		return os.WriteFile(path, data, 0o600)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.log.Info("making a database, which is kept in the cache", "of", name)
	if err := make(); err != nil {
		return errors.Join(err, os.RemoveAll(path))
	}
	if data, err = os.ReadFile(path); err != nil {
		return err
	}
	part := kept + "." + strconv.Itoa(os.Getpid())
	return errors.Join(os.WriteFile(part, data, 0o600), os.Rename(part, kept))
}

// airflowEnv is what every process of Airflow runs in. DAGs begin paused.
func (s *Stack) airflowEnv() []string {
	a := s.Config.Access
	return append(s.Env(), "AIRFLOW_HOME="+s.path("airflow"), "AIRFLOW__CORE__DAGS_FOLDER="+s.rendered("airflow"), "AIRFLOW__CORE__LOAD_EXAMPLES=False",
		"AIRFLOW__CORE__EXECUTOR=LocalExecutor", "AIRFLOW__CORE__PARALLELISM=2", "AIRFLOW__API__HOST=127.0.0.1", fmt.Sprint("AIRFLOW__API__PORT=", s.Port("airflow")),
		"AIRFLOW__API__WORKERS=1", "AIRFLOW__API__BASE_URL="+s.url("airflow", ""), "AIRFLOW__CORE__EXECUTION_API_SERVER_URL="+s.url("airflow", "/execution/"),
		"AIRFLOW__API_AUTH__JWT_SECRET="+a.Secret, "AIRFLOW__API__SECRET_KEY="+a.Secret,
		"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS="+a.Admin+":admin", "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE="+s.path("airflow", "passwords.json"),
		"PATH="+s.cached("venv", "airflow", "bin")+":"+os.Getenv("PATH"))
}

func (s *Stack) airflowPart(name string, wave int, args ...string) part {
	program := s.cached("venv", "airflow", "bin", "airflow")
	return part{name: name, port: "airflow", wave: wave, within: 5 * time.Minute,
		start: func() (process, error) {
			return process{path: program, args: args, env: s.airflowEnv()}, s.prepareAirflow(program)
		},
	}
}

func (s *Stack) airflow() []part {
	api := s.airflowPart("airflow-api", 8, "api-server")
	api.ready = func(ctx context.Context) error { return get(ctx, s.url("airflow", "/api/v2/version")) }
	scheduler := s.airflowPart("airflow-scheduler", 9, "scheduler", "--skip-serve-logs") // the API server reads the files
	scheduler.ready = func(ctx context.Context) error { return s.airflowHealth(ctx, "scheduler") }
	processor := s.airflowPart("airflow-dags", 9, "dag-processor")
	processor.ready = func(ctx context.Context) error { return s.airflowHealth(ctx, "dag_processor") }
	return []part{api, scheduler, processor}
}

func (s *Stack) prepareAirflow(program string) error {
	a := s.Config.Access
	passwords, err := json.Marshal(map[string]string{a.Admin: a.AdminPassword})
	if err != nil {
		return err
	}
	if err := writeFile(s.path("airflow", "passwords.json"), string(passwords)); err != nil {
		return err
	}
	return s.database("airflow", s.path("airflow", "airflow.db"), func() error {
		cmd := exec.Command(program, "db", "migrate")
		cmd.Env = append(os.Environ(), s.airflowEnv()...)
		return output(cmd)
	})
}

func (s *Stack) airflowHealth(ctx context.Context, component string) error {
	var health map[string]struct{ Status string }
	if err := getJSON(ctx, s.url("airflow", "/api/v2/monitor/health"), &health); err != nil {
		return err
	}
	if status := health[component].Status; status != "healthy" {
		return fmt.Errorf("%s is %q", component, status)
	}
	return nil
}

const supersetConfig = `import os

SECRET_KEY = os.environ["SUPERSET_SECRET_KEY"]
SQLALCHEMY_DATABASE_URI = "sqlite:///" + os.path.join(os.environ["SUPERSET_HOME"], "superset.db")
TALISMAN_ENABLED = False  # it would want https
RATELIMIT_ENABLED = False
FEATURE_FLAGS = {"ENABLE_TEMPLATE_PROCESSING": True}  # filters reach panels through other tables
SUPERSET_WEBSERVER_TIMEOUT = 300  # seconds that a page waits for a chart; the first queries of a cold Spark are slow
`

func (s *Stack) supersetEnv() []string {
	return []string{"SUPERSET_HOME=" + s.path("superset"), "SUPERSET_CONFIG_PATH=" + s.path("superset", "superset_config.py"), "FLASK_APP=superset.app:create_app()",
		"SUPERSET_SECRET_KEY=" + s.Config.Access.Secret, "PATH=" + s.cached("venv", "superset", "bin") + ":" + os.Getenv("PATH")}
}

func (s *Stack) superset() part {
	return part{name: "superset", port: "superset", wave: 10, within: 5 * time.Minute,
		start: func() (process, error) {
			if err := writeFile(s.path("superset", "superset_config.py"), supersetConfig); err != nil {
				return process{}, err
			}
			err := s.database("superset", s.path("superset", "superset.db"), s.makeSuperset)
			return process{path: s.cached("venv", "superset", "bin", "gunicorn"), env: s.supersetEnv(), args: []string{
				"-w", "1", "-k", "gthread", "--threads", "4", "--timeout", "300", "-b", s.addr("superset"), "superset.app:create_app()"}}, err
		},
		ready: func(ctx context.Context) error { return get(ctx, s.url("superset", "/health")) },
	}
}

func (s *Stack) makeSuperset() error {
	a := s.Config.Access
	for _, args := range [][]string{
		{"db", "upgrade"},
		{"fab", "create-admin", "--username", a.Admin, "--password", a.AdminPassword, "--firstname", "Ann", "--lastname", "Admin", "--email", "admin@localhost.localdomain"},
		{"init"},
	} {
		cmd := exec.Command(s.cached("venv", "superset", "bin", "superset"), args...)
		cmd.Env = append(os.Environ(), s.supersetEnv()...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := output(cmd); err != nil {
			return err
		}
	}
	return nil
}
