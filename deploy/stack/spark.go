package stack

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sparkHome is the Spark that the Python package brings.
func (s *Stack) sparkHome() (string, error) {
	homes, err := filepath.Glob(s.cached("venv", "spark", "lib", "python3*", "site-packages", "pyspark"))
	if err != nil || len(homes) != 1 {
		return "", fmt.Errorf("the cache has %d pyspark packages in venv/spark; install spark again", len(homes))
	}
	return homes[0], nil
}

// sparkEnv is what every Spark process of ours runs in. SPARK_SCALA_VERSION keeps
// the Python package's scripts from looking for folders of a source build.
func (s *Stack) sparkEnv() ([]string, error) {
	home, err := s.sparkHome()
	if err != nil {
		return nil, err
	}
	java, err := javaHome(0)
	if err != nil {
		return nil, err
	}
	return []string{"SPARK_HOME=" + home, "SPARK_CONF_DIR=" + s.path("spark", "conf"), "SPARK_SCALA_VERSION=2.13", "SPARK_LOCAL_IP=127.0.0.1",
		"SPARK_LOCAL_DIRS=" + s.path("spark", "local"), "JAVA_HOME=" + java,
		"PYSPARK_PYTHON=" + s.cached("venv", "spark", "bin", "python"), "PYSPARK_DRIVER_PYTHON=" + s.cached("venv", "spark", "bin", "python")}, nil
}

// prepareSpark writes the configuration, and a spark-submit that knows where
// everything is.
func (s *Stack) prepareSpark() error {
	env, err := s.sparkEnv()
	if err != nil {
		return err
	}
	home, err := s.sparkHome()
	if err != nil {
		return err
	}
	var script strings.Builder
	script.WriteString("#!/bin/sh\n# Written by the launcher of the stack.\n")
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		fmt.Fprintf(&script, "export %s='%s'\n", name, value)
	}
	submit := script.String() + fmt.Sprintf("exec '%s/bin/spark-submit' \"$@\"\n", home)
	for path, text := range map[string]string{
		s.path("bin", "spark-submit"):                 submit,
		s.path("spark", "conf", "metrics.properties"): sparkMetrics,
		s.path("spark", "conf", "log4j2.properties"):  sparkLog,
		s.path("spark", "thrift.conf"):                properties(s.Config.thriftProperties(s.sparkPlace(), s.Port("thrift-ui"))),
		s.path("spark", "stream.conf"):                properties(s.Config.streamProperties(s.sparkPlace(), s.Port("stream-ui"))),
	} {
		if err := writeFile(path, text); err != nil {
			return err
		}
	}
	for _, dir := range []string{"local", "work", "tmp"} {
		if err := os.MkdirAll(s.path("spark", dir), 0o755); err != nil {
			return err
		}
	}
	return os.Chmod(s.path("bin", "spark-submit"), 0o755)
}

// sparkMetrics has every process answer Prometheus on the port of its pages.
const sparkMetrics = `*.sink.prometheusServlet.class=org.apache.spark.metrics.sink.PrometheusServlet
*.sink.prometheusServlet.path=/metrics/prometheus
*.source.jvm.class=org.apache.spark.metrics.source.JvmSource
`

const sparkLog = `rootLogger.level = warn
rootLogger.appenderRef.stderr.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd HH:mm:ss.SSS} %p %c{1}: %m%n%ex
logger.master.name = org.apache.spark.deploy
logger.master.level = info
`

// property is one line of a configuration of Spark.
type property struct{ name, value string }

func properties(list []property) string {
	var b strings.Builder
	for _, p := range list {
		fmt.Fprintf(&b, "%s %s\n", p.name, p.value)
	}
	return b.String()
}

// sparkPlace says where an application finds the rest of the stack: here, or in
// the containers of compose.yaml.
type sparkPlace struct {
	master, catalog, s3 string // addresses
	driver, bind        string // host that executors call the driver by, and the address that it listens on
	jars, warehouse     string
	tmp                 string // "": the system's
}

func (s *Stack) sparkPlace() sparkPlace {
	return sparkPlace{master: "spark://" + s.addr("spark-master"), catalog: s.url("catalog", ""), s3: s.url("minio", ""),
		driver: "127.0.0.1", bind: "127.0.0.1", jars: s.cached("jars", "spark", "*"), warehouse: s.path("spark", "warehouse"), tmp: s.path("spark", "tmp")}
}

// commonProperties are those of every application on the worker.
func (c *Config) commonProperties(at sparkPlace, cores int, executor string) []property {
	options := "-XX:+UseSerialGC -Xss4m -Duser.timezone=UTC"
	driver := options
	if at.tmp != "" {
		driver += " -Djava.io.tmpdir=" + at.tmp
	}
	return []property{
		{"spark.master", at.master},
		{"spark.driver.host", at.driver},
		{"spark.driver.bindAddress", at.bind},
		{"spark.driver.extraClassPath", at.jars},
		{"spark.executor.extraClassPath", at.jars},
		{"spark.cores.max", strconv.Itoa(cores)},
		{"spark.executor.cores", strconv.Itoa(cores)},
		{"spark.executor.memory", executor},
		{"spark.executor.extraJavaOptions", options},
		{"spark.driver.extraJavaOptions", driver},
		{"spark.sql.session.timeZone", "UTC"},
		{"spark.sql.extensions", "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions"},
		{"spark.sql.shuffle.partitions", "2"},
		{"spark.ui.prometheus.enabled", "true"},
		{"spark.ui.showConsoleProgress", "false"},
	}
}

// streamProperties are the further properties of the streaming application
// (LOCKSTEP_SPARK_CONF); what it must know of the lake it is told by its caller.
func (c *Config) streamProperties(at sparkPlace, uiPort int) []property {
	return append(c.commonProperties(at, c.Spark.StreamCores, c.Spark.StreamExecutor), property{"spark.ui.port", strconv.Itoa(uiPort)})
}

// thriftProperties: catalog lake is the real one and never cached, because others
// commit to it; the session catalog is in memory and holds the views that clients see.
func (c *Config) thriftProperties(at sparkPlace, uiPort int) []property {
	return append(c.commonProperties(at, c.Spark.ThriftCores, c.Spark.ThriftExecutor),
		property{"spark.driver.memory", c.Memory["thrift"]},
		property{"spark.ui.port", strconv.Itoa(uiPort)},
		property{"spark.sql.catalogImplementation", "in-memory"},
		property{"spark.sql.warehouse.dir", at.warehouse},
		property{"spark.sql.catalog.lake", "org.apache.iceberg.spark.SparkCatalog"},
		property{"spark.sql.catalog.lake.type", "rest"},
		property{"spark.sql.catalog.lake.uri", at.catalog},
		property{"spark.sql.catalog.lake.cache-enabled", "false"},
		property{"spark.sql.catalog.lake.io-impl", "org.apache.iceberg.aws.s3.S3FileIO"},
		property{"spark.sql.catalog.lake.s3.endpoint", at.s3},
		property{"spark.sql.catalog.lake.s3.path-style-access", "true"},
		property{"spark.sql.catalog.lake.s3.access-key-id", c.Access.S3User},
		property{"spark.sql.catalog.lake.s3.secret-access-key", c.Access.S3Password},
		property{"spark.sql.catalog.lake.client.region", "us-east-1"},
	)
}

func (s *Stack) sparkClass(class, heap string, args ...string) (process, error) {
	home, err := s.sparkHome()
	if err != nil {
		return process{}, err
	}
	env, err := s.sparkEnv()
	return process{path: filepath.Join(home, "bin", "spark-class"), args: append([]string{class}, args...), dir: s.path("spark"),
		env: append(env, "SPARK_DAEMON_MEMORY="+s.Config.Memory[heap], "SPARK_DAEMON_JAVA_OPTS=-XX:+UseSerialGC")}, err
}

func (s *Stack) sparkMaster() part {
	return part{name: "spark-master", port: "spark-master", wave: 3, within: 2 * time.Minute,
		start: func() (process, error) {
			return s.sparkClass("org.apache.spark.deploy.master.Master", "spark-master", "--host", "127.0.0.1",
				"--port", strconv.Itoa(s.Port("spark-master")), "--webui-port", strconv.Itoa(s.Port("spark-master-ui")))
		},
		ready: func(ctx context.Context) error { return get(ctx, s.url("spark-master-ui", "/json/")) },
	}
}

func (s *Stack) sparkWorker() part {
	c := s.Config.Spark
	return part{name: "spark-worker", port: "spark-worker", wave: 4, within: 2 * time.Minute,
		start: func() (process, error) {
			return s.sparkClass("org.apache.spark.deploy.worker.Worker", "spark-worker", "--host", "127.0.0.1",
				"--port", strconv.Itoa(s.Port("spark-worker")), "--webui-port", strconv.Itoa(s.Port("spark-worker-ui")),
				"--cores", strconv.Itoa(c.WorkerCores), "--memory", c.WorkerMemory, "--work-dir", s.path("spark", "work"),
				"spark://"+s.addr("spark-master"))
		},
		ready: func(ctx context.Context) error { return get(ctx, s.url("spark-worker-ui", "/json/")) },
	}
}

func (s *Stack) thrift() part {
	return part{name: "thrift", port: "thrift", wave: 5, within: 5 * time.Minute,
		start: func() (process, error) {
			return process{path: s.path("bin", "spark-submit"), dir: s.path("spark"), args: []string{
				"--properties-file", s.path("spark", "thrift.conf"), "--name", "thrift",
				"--class", "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2", "spark-internal",
				"--hiveconf", "hive.server2.thrift.port=" + strconv.Itoa(s.Port("thrift")),
				"--hiveconf", "hive.server2.thrift.bind.host=127.0.0.1",
				"--hiveconf", "hive.exec.scratchdir=" + s.path("spark", "tmp", "hive"),
				"--hiveconf", "hive.exec.local.scratchdir=" + s.path("spark", "tmp"),
				"--hiveconf", "hive.server2.logging.operation.enabled=false"}}, nil
		},
		ready: func(ctx context.Context) error { return dial(ctx, s.addr("thrift")) },
	}
}

// KillExecutors ends all executors of Spark's worker at once (SIGKILL), and says
// how many there were. The worker starts others in their place.
func (s *Stack) KillExecutors() (int, error) {
	worker := s.PID("spark-worker")
	if worker == 0 {
		return 0, fmt.Errorf("cannot kill executors: spark-worker does not run")
	}
	n := 0
	for _, pid := range members(worker) {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || !strings.Contains(string(line), "CoarseGrainedExecutorBackend") {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return n, fmt.Errorf("cannot kill executor %d: %w", pid, err)
		}
		n++
	}
	return n, nil
}
