//go:build stack

package stack_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lockstep/cluster"
	"lockstep/deploy/stack"
)

// sparkSession is a Spark in one process that runs testdata/spark_lake.py.
type sparkSession struct {
	t       *testing.T
	in      io.WriteCloser
	answers *bufio.Reader
}

// lakeProperties make catalog `lake` of a Spark session that of the stack.
func lakeProperties(c *cluster.Config) map[string]string {
	const lake = "spark.sql.catalog.lake"
	return map[string]string{
		"spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
		lake:                   "org.apache.iceberg.spark.SparkCatalog",
		lake + ".type":         "rest", lake + ".uri": c.Catalog, lake + ".cache-enabled": "false",
		lake + ".io-impl": "org.apache.iceberg.aws.s3.S3FileIO", lake + ".s3.endpoint": c.S3Endpoint, lake + ".s3.path-style-access": "true",
		lake + ".s3.access-key-id": c.S3AccessKey, lake + ".s3.secret-access-key": c.S3SecretKey, lake + ".client.region": c.S3Region,
		"spark.driver.extraClassPath": c.SparkJars, "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -Xss4m -Duser.timezone=UTC",
		"spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "1", "spark.sql.session.timeZone": "UTC", "spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1",
	}
}

func startSpark(t *testing.T) *sparkSession {
	t.Helper()
	c := settings(t, up(t, stack.Core, stack.Spark))
	script, err := filepath.Abs("testdata/spark_lake.py")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--master", "local[1]", "--driver-memory", "700m"}
	for k, v := range lakeProperties(c) {
		args = append(args, "--conf", k+"="+v)
	}
	requests, answers := filepath.Join(t.TempDir(), "requests"), filepath.Join(t.TempDir(), "answers")
	if err := errors.Join(syscall.Mkfifo(requests, 0o600), syscall.Mkfifo(answers, 0o600)); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "spark.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(c.SparkSubmit, append(args, script)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), "LAKE_REQUESTS="+requests, "LAKE_ANSWERS="+answers), log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &sparkSession{t: t}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		if s.in != nil {
			s.in.Close() // ends the program
		} else {
			cmd.Process.Signal(syscall.SIGTERM)
		}
		select {
		case <-ended:
		case <-time.After(time.Minute):
			cmd.Process.Kill()
		}
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("Spark said:\n%s", text[max(0, len(text)-4000):])
		}
	})
	s.in = openPipe(t, requests, os.O_WRONLY, ended)
	s.answers = bufio.NewReader(openPipe(t, answers, os.O_RDONLY, ended))
	return s
}

// openPipe waits for the program to open its end.
func openPipe(t *testing.T, path string, flag int, ended <-chan struct{}) *os.File {
	t.Helper()
	opened := make(chan *os.File, 1)
	go func() {
		if f, err := os.OpenFile(path, flag, 0); err == nil {
			opened <- f
		}
	}()
	select {
	case f := <-opened:
		t.Cleanup(func() { f.Close() })
		return f
	case <-ended:
		t.Fatal("Spark ended before it began")
	case <-time.After(5 * time.Minute):
		t.Fatal("Spark does not begin")
	}
	return nil
}

// ask gives the answer to a request, or Spark's error as text.
func (s *sparkSession) ask(request map[string]any) (rows [][]string, fault string) {
	s.t.Helper()
	line, err := json.Marshal(request)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.in.Write(append(line, '\n')); err != nil {
		s.t.Fatal(err)
	}
	text, err := s.answers.ReadBytes('\n')
	if err != nil {
		s.t.Fatalf("Spark gave no answer to %s: %v", line, err)
	}
	var answer struct {
		Rows  [][]*string
		Error string
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		s.t.Fatal(err)
	}
	for _, r := range answer.Rows {
		row := make([]string, len(r))
		for i, v := range r {
			if row[i] = "(null)"; v != nil {
				row[i] = *v
			}
		}
		rows = append(rows, row)
	}
	return rows, answer.Error
}

func (s *sparkSession) sql(query string) [][]string {
	s.t.Helper()
	rows, fault := s.ask(map[string]any{"sql": query})
	if fault != "" {
		s.t.Fatalf("%s: %s", query, fault)
	}
	return rows
}

// one is the single row of a query, with bars between.
func (s *sparkSession) one(query string) string {
	s.t.Helper()
	rows := s.sql(query)
	if len(rows) != 1 {
		s.t.Fatalf("%s: %d rows", query, len(rows))
	}
	return strings.Join(rows[0], "|")
}
