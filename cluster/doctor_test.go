package cluster

import (
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"lockstep/project"
	"lockstep/registry"
)

func examine(t *testing.T, config Config) *examination {
	t.Helper()
	p := &project.Project{Sources: []*project.Source{{Topic: "a"}, {Topic: "b"}}}
	return &examination{Doctor: &Doctor{}, config: &config, project: p, scratch: "doctor_test"}
}

// want finds the check and compares its state and parts of its text.
func (e *examination) want(t *testing.T, asked, state string, texts ...string) {
	t.Helper()
	for _, c := range e.Checks() {
		if c.Asked != asked {
			continue
		}
		if c.State != state {
			t.Errorf("%s %s is %s: %s", c.Part, asked, c.State, c.Found)
		}
		for _, text := range texts {
			if !strings.Contains(c.Found+"\n"+c.Remedy, text) {
				t.Errorf("%s %s says %q and %q, without %q", c.Part, asked, c.Found, c.Remedy, text)
			}
		}
		return
	}
	t.Errorf("nobody asked: %s", asked)
}

func fakeKafka(t *testing.T, brokers int, opts ...kfake.Opt) []string {
	t.Helper()
	c, err := kfake.NewCluster(append(opts, kfake.NumBrokers(brokers), kfake.SleepOutOfOrder())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.ListenAddrs()
}

func TestDoctorKafka(t *testing.T) {
	t.Run("well", func(t *testing.T) {
		e := examine(t, Config{Kafka: fakeKafka(t, 3, kfake.SeedTopics(1, "a"), kfake.BrokerConfigs(map[string]string{"min.insync.replicas": "2"}))})
		e.kafka(t.Context())
		e.want(t, "answers", CheckOK, "3 brokers")
		e.want(t, "create, describe and delete a topic", CheckOK, "replication 3", "min.insync 2", "transactions work")
		e.want(t, "topics of the project", CheckOK, "1 of 2 exist", "lockstep replay")
	})
	t.Run("one broker", func(t *testing.T) {
		e := examine(t, Config{Kafka: fakeKafka(t, 1, kfake.DefaultNumPartitions(1))})
		e.kafka(t.Context())
		e.want(t, "create, describe and delete a topic", CheckWarning, "what a broker loses is lost", "three brokers")
	})
	t.Run("nobody there", func(t *testing.T) {
		e := examine(t, Config{Kafka: []string{"127.0.0.1:1"}})
		e.kafka(t.Context())
		e.want(t, "answers", CheckFailed, "127.0.0.1:1", "connection refused", "see that the brokers run")
		if len(e.Checks()) != 1 {
			t.Errorf("it asked on: %+v", e.Checks())
		}
	})
	t.Run("no such certificate", func(t *testing.T) {
		e := examine(t, Config{Kafka: []string{"127.0.0.1:1"}, KafkaTLS: true, KafkaCA: filepath.Join(t.TempDir(), "none.pem")})
		e.kafka(t.Context())
		e.want(t, "connection", CheckFailed, "none.pem", "kafka_ settings")
	})
}

func TestDoctorNobodyThere(t *testing.T) {
	nobody := "http://127.0.0.1:1"
	e := examine(t, Config{Registry: nobody, Catalog: nobody, Warehouse: "s3://w", S3Endpoint: nobody, S3AccessKey: "k", S3SecretKey: "s", S3Region: "us-east-1",
		SparkSubmit: filepath.Join(t.TempDir(), "spark-submit"), SparkJars: t.TempDir() + "/*", SparkConf: "/nowhere.conf", SparkMaster: "spark://127.0.0.1:1", Thrift: "127.0.0.1:1"})
	e.registry(t.Context())
	e.want(t, "answers", CheckFailed, "see that the registry runs")
	bucket := e.objects(t.Context())
	e.want(t, "bucket of the warehouse", CheckFailed, "see that the object store runs")
	if bucket || e.catalog(t.Context(), bucket) {
		t.Error("there is a table without a catalog")
	}
	e.submit(t.Context())
	e.want(t, "spark-submit", CheckFailed, "cannot run", "pip install pyspark")
	e.want(t, "jars", CheckFailed, "iceberg-spark-runtime", "pom.xml")
	e.want(t, "further properties", CheckFailed, "/nowhere.conf")
	e.want(t, "master", CheckFailed, "connection refused", "start the master")
	e.thrift(t.Context(), false)
	e.want(t, "log in and select", CheckFailed, "start the Thrift Server")
}

func TestDoctorJars(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"iceberg-spark-runtime-4.1_2.13-1.12.0.jar", "iceberg-aws-bundle-1.12.0.jar", "spark-sql-kafka-0-10_2.13-4.1.3.jar", "kafka-clients-3.9.1.jar"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := sparkJars(dir + "/*"); err == nil || !strings.Contains(err.Error(), "has no hadoop-aws") {
		t.Errorf("without hadoop-aws: %v", err)
	}
	extra := filepath.Join(t.TempDir(), "hadoop-aws-3.4.2.jar")
	if err := os.WriteFile(extra, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if found, err := sparkJars(dir + "/*:" + extra); err != nil || found != "5 jars" {
		t.Errorf("all jars: %q, %v", found, err)
	}
}

func TestDoctorSparkVersion(t *testing.T) {
	for _, c := range []struct {
		banner, state, text string
	}{
		{"   version 4.1.3", CheckOK, "4.1.3"},
		{"   version 4.0.1", CheckWarning, "tested with 4.1"},
		{"   version 3.5.6", CheckFailed, "use Spark 4.1"},
		{"no banner", CheckFailed, "names no version"},
	} {
		program := filepath.Join(t.TempDir(), "spark-submit")
		if err := os.WriteFile(program, []byte("#!/bin/sh\necho '"+c.banner+"' >&2\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		e := examine(t, Config{SparkSubmit: program, SparkMaster: "local[2]"})
		e.submit(t.Context())
		e.want(t, "spark-submit", c.state, c.text)
	}
}

func TestDoctorAsk(t *testing.T) {
	d := &Doctor{}
	var seen []string
	d.Report = func(c Check) { seen = append(seen, c.State) }
	if d.Ask(t.Context(), "p", "slow", time.Millisecond, func(ctx context.Context) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}) {
		t.Error("a check that ran out of time is fine")
	}
	if !d.Ask(t.Context(), "p", "warned", time.Second, func(context.Context) (string, error) {
		return "", &Fault{Problem: "odd", Remedy: "look", Warning: true}
	}) {
		t.Error("a warning stops what follows")
	}
	if d.Ask(t.Context(), "p", "failed", time.Second, func(context.Context) (string, error) { return "", mend(errors.New("x"), "do %s", "y") }) {
		t.Error("a failure is fine")
	}
	d.skip("p", "skipped", "why")
	if got := strings.Join(seen, " "); got != "failed warning failed skipped" {
		t.Errorf("states are %s", got)
	}
	if c := d.Checks()[0]; !strings.Contains(c.Found, "has not answered within 1ms") {
		t.Errorf("found %q", c.Found)
	}
	if c := d.Checks()[2]; c.Remedy != "do y" {
		t.Errorf("remedy %q", c.Remedy)
	}
}

func TestDoctorRegistry(t *testing.T) {
	const asked = "register, check and delete a schema"
	t.Run("well", func(t *testing.T) {
		server, err := registry.New(t.Context(), registry.Config{ClientOpts: []kgo.Opt{kgo.SeedBrokers(fakeKafka(t, 1)...)}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(server.Close)
		web := httptest.NewServer(server)
		t.Cleanup(web.Close)
		e := examine(t, Config{Registry: web.URL})
		e.registry(t.Context())
		e.want(t, asked, CheckOK, "incompatible schemas are refused")
		if n, _ := server.Counts(); n != 0 {
			t.Errorf("%d subjects are left", n)
		}
	})
	t.Run("checks nothing", func(t *testing.T) {
		fake := srfake.New()
		t.Cleanup(fake.Close)
		e := examine(t, Config{Registry: fake.URL()})
		e.registry(t.Context())
		e.want(t, asked, CheckFailed, "was accepted", "checks compatibility")
	})
}
