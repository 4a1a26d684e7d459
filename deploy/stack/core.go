package stack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const kafkaNodes = 3

// parts lists the parts of the chosen groups in the order in which they start.
func (s *Stack) parts() []part {
	var out []part
	if s.has(Core) {
		for n := 1; n <= kafkaNodes; n++ {
			out = append(out, s.kafka(n))
		}
		out = append(out, s.minio(), s.postgres(), s.registry(), s.catalog())
	}
	if s.has(Spark) {
		out = append(out, s.sparkMaster(), s.sparkWorker(), s.thrift())
	}
	if s.has(Lockstep) {
		out = append(out, s.product()...)
	}
	if s.has(Monitoring) {
		out = append(out, s.prometheus(), s.alertmanager())
	}
	if s.has(Airflow) {
		out = append(out, s.airflow()...)
	}
	if s.has(Superset) {
		out = append(out, s.superset())
	}
	return out
}

// prepare writes what parts and clients read before the first start.
func (s *Stack) prepare() error {
	for n := 1; n <= kafkaNodes; n++ {
		if err := writeFile(s.path("kafka", nodeName(n)+".properties"), s.kafkaProperties(n)); err != nil {
			return err
		}
	}
	if err := writeFile(s.path("kafka", "jmx.yaml"), kafkaJMX); err != nil {
		return err
	}
	if s.has(Spark) {
		if err := s.prepareSpark(); err != nil {
			return err
		}
	}
	return writeFile(s.path("env"), s.Exports())
}

// javaPart is a Java process on its largest heap; all are kept small.
func (s *Stack) javaPart(version int, heap string, args ...string) (process, error) {
	home, err := javaHome(version)
	if err != nil {
		return process{}, err
	}
	flags := []string{"-Xms64m", "-Xmx" + s.Config.Memory[heap], "-XX:+UseSerialGC", "-Xss512k", "-Djava.net.preferIPv4Stack=true"}
	return process{path: filepath.Join(home, "bin", "java"), args: append(flags, args...)}, nil
}

func nodeName(n int) string { return fmt.Sprintf("kafka-%d", n) }

func (s *Stack) kafka(n int) part {
	name := nodeName(n)
	properties := s.path("kafka", name+".properties")
	classes := s.cached("jars", "kafka", "*")
	return part{name: name, port: name + "-external", wave: 1, within: 3 * time.Minute,
		start: func() (process, error) {
			if err := s.formatKafka(n, classes, properties); err != nil {
				return process{}, err
			}
			agent, err := filepath.Glob(s.cached("jars", "jmx", "*.jar"))
			if err != nil || len(agent) != 1 {
				return process{}, fmt.Errorf("the cache has %d JMX exporters", len(agent))
			}
			args := []string{"-XX:MaxDirectMemorySize=64m", "-XX:ReservedCodeCacheSize=64m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=info",
				fmt.Sprintf("-javaagent:%s=%s:%s", agent[0], s.addr(name+"-jmx"), s.path("kafka", "jmx.yaml"))}
			return s.javaPart(0, "kafka", append(args, "-cp", classes, "kafka.Kafka", properties)...)
		},
		ready: func(ctx context.Context) error { return s.askKafka(ctx, n) },
	}
}

// KafkaCommand runs a class of the Kafka that is installed, for who needs a node
// beside the stack's.
func (s *Stack) KafkaCommand(args ...string) (*exec.Cmd, error) {
	p, err := s.javaPart(0, "kafka", append([]string{"-Dorg.slf4j.simpleLogger.defaultLogLevel=info", "-cp", s.cached("jars", "kafka", "*")}, args...)...)
	return exec.Command(p.path, p.args...), err
}

// formatKafka writes a node's folder once. A folder whose format was cut short
// has no meta.properties and is formatted again.
func (s *Stack) formatKafka(n int, classes, properties string) error {
	if _, err := os.Stat(s.path("kafka", nodeName(n), "meta.properties")); err == nil {
		return nil
	}
	var voters []string
	for i := 1; i <= kafkaNodes; i++ {
		voters = append(voters, fmt.Sprintf("%d@%s:%s", i, s.addr(nodeName(i)+"-controller"), s.state.Disks[i-1]))
	}
	p, err := s.javaPart(0, "kafka", "-cp", classes, "kafka.tools.StorageTool", "format", "--ignore-formatted",
		"-t", s.state.Cluster, "-c", properties, "--initial-controllers", strings.Join(voters, ","))
	if err != nil {
		return err
	}
	return output(exec.Command(p.path, p.args...))
}

// kafkaProperties are a combined node's: controllers, the brokers among
// themselves, and clients each have a listener of their own.
func (s *Stack) kafkaProperties(n int) string {
	var controllers []string
	for i := 1; i <= kafkaNodes; i++ {
		controllers = append(controllers, s.addr(nodeName(i)+"-controller"))
	}
	listeners := fmt.Sprintf("CONTROLLER://%s,INTERNAL://%s,EXTERNAL://%s", s.addr(nodeName(n)+"-controller"), s.addr(nodeName(n)+"-internal"), s.addr(nodeName(n)+"-external"))
	lines := append([]string{
		"node.id=" + strconv.Itoa(n),
		"log.dirs=" + s.path("kafka", nodeName(n)),
		"controller.quorum.bootstrap.servers=" + strings.Join(controllers, ","),
		"listeners=" + listeners,
		"advertised.listeners=" + listeners,
	}, kafkaCommon...)
	return strings.Join(lines, "\n") + "\n"
}

// kafkaCommon is what all nodes share, here and in compose.yaml; the numbers of
// topic partitions and threads are those of a small machine.
var kafkaCommon = []string{
	"process.roles=broker,controller",
	"listener.security.protocol.map=CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT",
	"inter.broker.listener.name=INTERNAL",
	"controller.listener.names=CONTROLLER",
	"default.replication.factor=3",
	"min.insync.replicas=2",
	"offsets.topic.replication.factor=3",
	"transaction.state.log.replication.factor=3",
	"transaction.state.log.min.isr=2",
	"share.coordinator.state.topic.replication.factor=3",
	"share.coordinator.state.topic.min.isr=2",
	"auto.create.topics.enable=false",
	"offsets.topic.num.partitions=6",
	"transaction.state.log.num.partitions=6",
	"log.cleaner.dedupe.buffer.size=4194304",
	"group.initial.rebalance.delay.ms=0",
	"num.network.threads=2",
	"num.io.threads=2",
}

// askKafka asks a node who is in the cluster; it must know itself.
func (s *Stack) askKafka(ctx context.Context, n int) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(s.addr(nodeName(n) + "-external")))
	if err != nil {
		return err
	}
	defer c.Close()
	meta, err := kadm.NewClient(c).BrokerMetadata(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(meta.Brokers, func(b kadm.BrokerDetail) bool { return b.NodeID == int32(n) }) {
		return fmt.Errorf("node %d is not in the cluster yet; there are %d nodes", n, len(meta.Brokers))
	}
	return nil
}

func (s *Stack) registry() part {
	return part{name: "registry", port: "registry", wave: 2, within: 4 * time.Minute,
		start: func() (process, error) {
			name, set := s.in.jarSet("registry")
			jars, err := filepath.Glob(s.cached("jars", name, "*run*.jar"))
			if err != nil || len(jars) != 1 {
				return process{}, fmt.Errorf("the cache has %d programs of the registry in %s", len(jars), name)
			}
			p, err := s.javaPart(set.Java, "registry", "-jar", jars[0])
			p.dir = filepath.Dir(jars[0])
			p.env = []string{"QUARKUS_HTTP_HOST=127.0.0.1", fmt.Sprint("QUARKUS_HTTP_PORT=", s.Port("registry")),
				"QUARKUS_MANAGEMENT_HOST=127.0.0.1", fmt.Sprint("QUARKUS_MANAGEMENT_PORT=", s.Port("registry-management")),
				"APICURIO_STORAGE_KIND=kafkasql", "APICURIO_KAFKASQL_BOOTSTRAP_SERVERS=" + s.kafkaAddresses("internal")}
			return p, err
		},
		ready: func(ctx context.Context) error { return get(ctx, s.url("registry", registryPath+"/subjects")) },
	}
}

// registryPath is where Apicurio has the Confluent API.
const registryPath = "/apis/ccompat/v7"

func (s *Stack) kafkaAddresses(listener string) string {
	var out []string
	for n := 1; n <= kafkaNodes; n++ {
		out = append(out, s.addr(nodeName(n)+"-"+listener))
	}
	return strings.Join(out, ",")
}

func (s *Stack) minio() part {
	a := s.Config.Access
	return part{name: "minio", port: "minio", wave: 1, within: time.Minute,
		start: func() (process, error) {
			// A folder beside MinIO's own is a bucket.
			if err := os.MkdirAll(s.path("minio", a.Bucket), 0o755); err != nil {
				return process{}, err
			}
			return process{path: s.cached("go", "minio", "minio"),
				args: []string{"server", s.path("minio"), "--address", s.addr("minio"), "--console-address", s.addr("minio-console")},
				env: []string{"MINIO_ROOT_USER=" + a.S3User, "MINIO_ROOT_PASSWORD=" + a.S3Password, "MINIO_BROWSER=off", "MINIO_UPDATE=off",
					"MINIO_PROMETHEUS_AUTH_TYPE=public"}}, nil
		},
		ready: func(ctx context.Context) error { return get(ctx, s.url("minio", "/minio/health/ready")) },
	}
}

func (s *Stack) postgres() part {
	return part{name: "postgres", port: "postgres", wave: 1, within: time.Minute, signal: syscall.SIGINT, // end now, and in order
		start: func() (process, error) {
			cred, err := unprivileged()
			if err != nil {
				return process{}, err
			}
			if err := errors.Join(s.initPostgres(cred), s.clearPostgres()); err != nil {
				return process{}, err
			}
			path, err := postgresProgram("postgres")
			return process{path: path, dir: s.postgresDir(), cred: cred,
				args: []string{"-D", s.postgresDir(), "-p", strconv.Itoa(s.Port("postgres")), "-c", "listen_addresses=127.0.0.1",
					"-c", "unix_socket_directories=", "-c", "max_connections=40", "-c", "shared_buffers=32MB"}}, err
		},
		ready: func(ctx context.Context) error {
			return s.psql(ctx, "postgres", "SELECT 1")
		},
		settle: func(ctx context.Context) error {
			name := s.Config.Access.Database
			if s.psql(ctx, name, "SELECT 1") == nil {
				return nil
			}
			return s.psql(ctx, "postgres", "CREATE DATABASE "+name)
		},
	}
}

// postgresDir is the folder of the database: below the stack's, but for root,
// whom Postgres refuses: another user may not come into the stack's folder.
func (s *Stack) postgresDir() string {
	if os.Geteuid() != 0 {
		return s.path("postgres")
	}
	sum := sha256.Sum256([]byte(s.Dir))
	return filepath.Join(os.TempDir(), "lockstep-postgres-"+hex.EncodeToString(sum[:6]))
}

// unprivileged is who runs Postgres: nil (ourselves), or for root postgres or nobody.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
	}
	return nil, errors.New("Postgres does not run as root, and there is no user postgres or nobody")
}

func postgresProgram(name string) (string, error) {
	path, err := executable(name, "/usr/lib/postgresql/*/bin/"+name)
	if err != nil {
		return "", fmt.Errorf("cannot find Postgres (%s): install the package postgresql", name)
	}
	return path, nil
}

func (s *Stack) initPostgres(cred *syscall.Credential) error {
	dir := s.postgresDir()
	if _, err := os.Stat(filepath.Join(dir, "lockstep.ready")); err == nil {
		return nil
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return err
	}
	if cred != nil {
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			return err
		}
	}
	initdb, err := postgresProgram("initdb")
	if err != nil {
		return err
	}
	password, err := os.CreateTemp("", "lockstep-password-")
	if err != nil {
		return err
	}
	defer os.Remove(password.Name())
	if _, err := password.WriteString(s.Config.Access.DatabasePassword); err != nil {
		return err
	}
	if err := password.Close(); err != nil {
		return err
	}
	if cred != nil {
		if err := os.Chown(password.Name(), int(cred.Uid), int(cred.Gid)); err != nil {
			return err
		}
	}
	cmd := exec.Command(initdb, "-D", dir, "-U", s.Config.Access.DatabaseUser, "--pwfile", password.Name(), "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	if err := output(cmd); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "lockstep.ready"), "")
}

// clearPostgres removes what a killed Postgres leaves: its lock file, which would
// count if the process number were used again. First the last of its processes,
// which notice the death of the first by themselves, must be gone.
func (s *Stack) clearPostgres() error {
	deadline := time.Now().Add(grace)
	for {
		found, err := filepath.Glob("/proc/[0-9]*/cwd")
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(found, func(link string) bool {
			dir, err := os.Readlink(link)
			return err == nil && dir == s.postgresDir()
		}) {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("a process of an earlier Postgres still works in %s", s.postgresDir())
		}
		time.Sleep(50 * time.Millisecond)
	}
	err := os.Remove(filepath.Join(s.postgresDir(), "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (s *Stack) psql(ctx context.Context, database, statement string) error {
	path, err := postgresProgram("psql")
	if err != nil {
		return err
	}
	a := s.Config.Access
	cmd := exec.CommandContext(ctx, path, "-X", "-q", "-h", "127.0.0.1", "-p", strconv.Itoa(s.Port("postgres")), "-U", a.DatabaseUser, "-d", database, "-c", statement)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+a.DatabasePassword, "PGCONNECT_TIMEOUT=5")
	return output(cmd)
}

func (s *Stack) catalog() part {
	a := s.Config.Access
	return part{name: "catalog", port: "catalog", wave: 2, within: 2 * time.Minute,
		start: func() (process, error) {
			properties := s.Config.catalogProperties("127.0.0.1", s.Port("catalog"), s.addr("postgres"), s.url("minio", ""))
			dir := s.cached("jars", "catalog")
			classes := filepath.Join(dir, "*") + ":" + dir
			p, err := s.javaPart(0, "catalog", append([]string{"-cp", classes, "CatalogServer"}, properties...)...)
			p.env = []string{"CATALOG_JDBC_PASSWORD=" + a.DatabasePassword, "CATALOG_S3_SECRET=" + a.S3Password}
			return p, err
		},
		ready: func(ctx context.Context) error { return get(ctx, s.url("catalog", "/v1/config")) },
	}
}

// catalogProperties configure the catalog server; its passwords come by variables.
func (c *Config) catalogProperties(host string, port int, postgres, s3 string) []string {
	a := c.Access
	return []string{"host=" + host, "port=" + strconv.Itoa(port), "name=lake",
		"catalog-impl=org.apache.iceberg.jdbc.JdbcCatalog", "uri=jdbc:postgresql://" + postgres + "/" + a.Database,
		"jdbc.user=" + a.DatabaseUser, "jdbc.schema-version=V1",
		"retryable_status_codes=57P01,57P02,57P03", // a Postgres that was restarted
		"warehouse=s3://" + a.Bucket + "/", "io-impl=org.apache.iceberg.aws.s3.S3FileIO",
		"s3.endpoint=" + s3, "s3.path-style-access=true", "s3.access-key-id=" + a.S3User, "client.region=us-east-1"}
}
