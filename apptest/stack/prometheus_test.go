//go:build stack

package stack_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"lockstep/deploy/stack"
)

// TestPrometheusRules lets the real promtool and amtool judge what is rendered:
// each alert fires of its series, and not of the quiet ones.
func TestPrometheusRules(t *testing.T) {
	cache := software(t, stack.Monitoring)
	promtool := filepath.Join(cache, "deb/prometheus/usr/bin/promtool")
	amtool := filepath.Join(cache, "deb/prometheus-alertmanager/usr/bin/amtool")
	for name, flags := range map[string][]string{
		"embedded": nil,
		"cluster":  {"--kafka", "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3", "--spark", "127.0.0.1:4", "--minio", "127.0.0.1:5", "--webhook", "http://127.0.0.1:6/"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			embedded(t).must(append([]string{"render", "prometheus", dir}, flags...)...)
			t.Log(succeed(t, nil, promtool, "check", "config", filepath.Join(dir, "prometheus.yml")))
			t.Log(succeed(t, nil, promtool, "test", "rules", filepath.Join(dir, "alerts.test.yml")))
			succeed(t, nil, amtool, "check-config", filepath.Join(dir, "alertmanager.yml"))
		})
	}
}

// watched is a running instance with a Prometheus that scrapes it, and an
// Alertmanager that posts to us.
type watched struct {
	t          *testing.T
	web        string // address of the instance
	kafka      string
	prometheus string // URL

	mu     sync.Mutex
	alerts []postedAlert
}

// postedAlert is an alert as Alertmanager posts it.
type postedAlert struct {
	Status      string            `json:"status"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

func (w *watched) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var body struct {
		Alerts []postedAlert `json:"alerts"`
	}
	text, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(text, &body)
	}
	if err != nil {
		w.t.Errorf("Alertmanager posts %s: %v", text, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.alerts = append(w.alerts, body.Alerts...)
}

// posted finds an alert of a name and status.
func (w *watched) posted(name, status string) *postedAlert {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.alerts {
		if w.alerts[i].Labels["alertname"] == name && w.alerts[i].Status == status {
			return &w.alerts[i]
		}
	}
	return nil
}

// watch renders the configuration, with more flags that say what to scrape, and
// starts both servers from it.
func watch(t *testing.T, x *site, more ...string) *watched {
	t.Helper()
	cache := software(t, stack.Monitoring)
	w := &watched{t: t, web: local(freePort(t)), kafka: local(freePort(t))}
	hook := httptest.NewServer(w)
	t.Cleanup(hook.Close)
	dir, alertmanager, prometheus := t.TempDir(), local(freePort(t)), local(freePort(t))
	x.must(append([]string{"render", "prometheus", dir, "--lockstep", w.web, "--alertmanager", alertmanager, "--webhook", hook.URL, "--interval", "1s"}, more...)...)
	deb := filepath.Join(cache, "deb/prometheus-alertmanager/usr")
	// Debian's program reads a template of its package by an absolute path.
	am := launch(t, "alertmanager", nil, "unshare", "-m", "sh", "-c",
		`test -e /usr/share/prometheus/alertmanager/default.tmpl || mount -t overlay overlay -o lowerdir="$0/share:/usr/share" /usr/share; exec "$0/bin/prometheus-alertmanager" "$@"`,
		deb, "--config.file="+filepath.Join(dir, "alertmanager.yml"), "--storage.path="+t.TempDir(), "--web.listen-address="+alertmanager, "--cluster.listen-address=")
	am.await(t, "http://"+alertmanager+"/-/ready", time.Minute)
	w.prometheus = "http://" + prometheus
	prom := launch(t, "prometheus", nil, filepath.Join(cache, "deb/prometheus/usr/bin/prometheus"),
		"--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+t.TempDir(), "--web.listen-address="+prometheus)
	prom.await(t, w.prometheus+"/-/ready", time.Minute)
	return w
}

// run starts an instance where the servers look for one.
func (w *watched) run(x *site, more ...string) *process {
	return x.start(append([]string{"run", "--listen", w.web, "--kafka", w.kafka, "--registry", local(freePort(w.t))}, more...)...)
}

// sample is a value of an instant query.
type sample struct {
	Metric map[string]string `json:"metric"`
	Value  [2]any            `json:"value"`
}

// ask runs an instant query.
func (w *watched) ask(expr string) []sample {
	w.t.Helper()
	var answer struct {
		Data struct {
			Result []sample `json:"result"`
		} `json:"data"`
	}
	if code := ask(w.t, "GET", w.prometheus+"/api/v1/query?query="+url.QueryEscape(expr), "", nil, &answer); code != http.StatusOK {
		w.t.Fatalf("%s: %d", expr, code)
	}
	return answer.Data.Result
}

// asked waits until a query has an answer.
func (w *watched) asked(patience time.Duration, expr string) {
	w.t.Helper()
	eventually(w.t, patience, "a series for "+expr, func() bool { return len(w.ask(expr)) > 0 })
}

// ranged gives the number of series, and of values that are numbers, of the
// last minutes.
func (w *watched) ranged(expr string) (series, values int) {
	w.t.Helper()
	var answer struct {
		Data struct {
			Result []struct {
				Values [][2]any `json:"values"`
			} `json:"result"`
		} `json:"data"`
	}
	now := time.Now()
	q := url.Values{"query": {expr}, "start": {fmt.Sprint(now.Add(-10 * time.Minute).Unix())}, "end": {fmt.Sprint(now.Unix())}, "step": {"5"}}
	if code := ask(w.t, "GET", w.prometheus+"/api/v1/query_range?"+q.Encode(), "", nil, &answer); code != http.StatusOK {
		return 0, 0
	}
	for _, s := range answer.Data.Result {
		for _, v := range s.Values {
			if f, err := strconv.ParseFloat(fmt.Sprint(v[1]), 64); err == nil && !math.IsNaN(f) {
				values++
			}
		}
	}
	return len(answer.Data.Result), values
}

// TestMonitoring: a real Prometheus scrapes a running instance, the dashboards'
// expressions give series, and broken parts raise their alerts in a real
// Alertmanager, which go when the part is well again.
func TestMonitoring(t *testing.T) {
	x := embedded(t)
	w := watch(t, x)
	instance := w.run(x, "--scale", "0.02", "--schedule", "@every 15s")
	w.asked(2*time.Minute, `up{job="lockstep"} == 1`)
	w.asked(2*time.Minute, `lockstep:available == 1`)
	w.asked(2*time.Minute, `lockstep_manifest > 1`)

	topic := w.poison(t)
	w.asked(time.Minute, fmt.Sprintf(`lockstep_dead_letters{topic=%q} == 3`, topic))
	w.asked(time.Minute, fmt.Sprintf(`ALERTS{alertname="LockstepDeadLetters",alertstate="pending",topic=%q}`, topic))
	t.Run("grafana", func(t *testing.T) { grafanaExpressions(t, x, w) })

	instance.kill()
	w.asked(2*time.Minute, `ALERTS{alertname="LockstepDown",alertstate="firing"}`)
	eventually(t, 2*time.Minute, "Alertmanager posts LockstepDown", func() bool { return w.posted("LockstepDown", "firing") != nil })
	if a := w.posted("LockstepDown", "firing"); a.Labels["severity"] != "page" || a.Labels["instance"] != w.web || a.Annotations["runbook"] == "" {
		t.Errorf("posted was %+v", a)
	}

	w.run(x, "--schedule", "@every 15s")
	eventually(t, 4*time.Minute, "Alertmanager posts that LockstepDown is over", func() bool { return w.posted("LockstepDown", "resolved") != nil })
	// What came before is known to the instance that was started again.
	w.asked(time.Minute, fmt.Sprintf(`lockstep_dead_letters{topic=%q} == 3`, topic))
	if a := w.posted("LockstepDrift", "firing"); a != nil {
		t.Errorf("drift: %+v", a)
	}
}

// TestClusterMonitoring: Prometheus finds Lockstep and the parts of the real
// stack, with every metric that an alert names; a node of Kafka that is killed
// raises its alerts.
func TestClusterMonitoring(t *testing.T) {
	long(t)
	s := up(t, stack.Core, stack.Spark)
	x := onStack(t, s)
	at := func(ports ...string) string {
		for i, name := range ports {
			ports[i] = local(s.Port(name))
		}
		return strings.Join(ports, ",")
	}
	w := watch(t, x, "--kafka", at("kafka-1-jmx", "kafka-2-jmx", "kafka-3-jmx"), "--minio", at("minio"),
		"--spark", at("spark-master-ui", "spark-worker-ui", "thrift-ui", "stream-ui"))
	stream := x.start("speed")
	serve := x.start("serve", "--listen", w.web)
	x.must("replay", "--speed", "max", "--scale", "0.01")
	x.caughtUp(stream)
	x.must("batch")
	for job, n := range map[string]int{"lockstep": 1, "kafka": 3, "minio": 1, "spark": 4} {
		w.asked(3*time.Minute, fmt.Sprintf(`sum(up{job=%q}) == %d`, job, n))
	}
	if serve.ended() {
		t.Fatalf("lockstep serve has ended:\n%s", tail(serve.log.String()))
	}
	for _, expr := range []string{
		"lockstep:available == 1", "lockstep_step > 0", "lockstep_manifest > 0", "sum(lockstep_messages_total) > 0", "sum(lockstep_model_rows_out_total) > 0", "lockstep_bronze_to_silver_seconds_count > 0",
		"sum(kafka_server_replicamanager_underreplicatedpartitions) == 0", "sum(kafka_controller_kafkacontroller_offlinepartitionscount) == 0",
	} {
		w.asked(2*time.Minute, expr)
	}

	if err := s.Kill("kafka-2"); err != nil {
		t.Fatal(err)
	}
	w.asked(4*time.Minute, `ALERTS{alertname="KafkaBrokerDown",alertstate="firing"}`)
	w.asked(4*time.Minute, `ALERTS{alertname="KafkaUnderReplicated"}`)
	eventually(t, 3*time.Minute, "Alertmanager posts KafkaBrokerDown", func() bool { return w.posted("KafkaBrokerDown", "firing") != nil })
	if err := s.Start(t.Context(), "kafka-2"); err != nil {
		t.Fatal(err)
	}
	w.asked(5*time.Minute, "sum(kafka_server_replicamanager_underreplicatedpartitions) == 0")
	if a := w.posted("LockstepDown", "firing"); a != nil {
		t.Errorf("Lockstep goes on without a node of Kafka, but posted was %+v", a)
	}
}

// poison sends what no schema fits to one topic, and gives its name.
func (w *watched) poison(t *testing.T) string {
	t.Helper()
	series := w.ask(`lockstep_messages_total > 0`)
	if len(series) == 0 {
		t.Fatal("no topic has messages")
	}
	topic := series[0].Metric["topic"]
	client, err := kgo.NewClient(kgo.SeedBrokers(w.kafka))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for range 3 {
		if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Key: []byte("k"), Value: []byte("no Avro")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	return topic
}
