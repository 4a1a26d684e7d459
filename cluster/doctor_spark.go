package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"lockstep/engine/spark"
)

const (
	submitPart = "spark"
	thriftPart = "thrift"
)

// submit looks at what `lockstep speed` starts applications with.
func (e *examination) submit(ctx context.Context) {
	e.Ask(ctx, submitPart, "spark-submit", 2*time.Minute, func(ctx context.Context) (string, error) { return sparkVersion(ctx, e.config.SparkSubmit) })
	e.Ask(ctx, submitPart, "jars", 10*time.Second, func(context.Context) (string, error) { return sparkJars(e.config.SparkJars) })
	if e.config.SparkConf != "" {
		e.Ask(ctx, submitPart, "further properties", 10*time.Second, func(context.Context) (string, error) {
			_, err := os.Stat(e.config.SparkConf)
			return e.config.SparkConf, mend(err, "correct spark_conf, or leave it empty")
		})
	}
	e.Ask(ctx, submitPart, "master", 10*time.Second, func(ctx context.Context) (string, error) {
		u, err := url.Parse(e.config.SparkMaster)
		if err != nil || u.Scheme != "spark" {
			return e.config.SparkMaster, nil // local, yarn and k8s have no address of their own to ask
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
		if err != nil {
			return "", mend(err, "start the master, or correct spark_master (%s)", e.config.SparkMaster)
		}
		return e.config.SparkMaster, conn.Close()
	})
}

var sparkVersionLine = regexp.MustCompile(`version (\d+)\.(\d+)\.(\d+)`)

func sparkVersion(ctx context.Context, program string) (string, error) {
	out, err := exec.CommandContext(ctx, program, "--version").CombinedOutput()
	if err != nil {
		return "", mend(fmt.Errorf("cannot run %s --version: %w", program, err), "install Spark 4.1 (pip install pyspark==4.1.3) and Java 17, and name its spark-submit in spark_submit")
	}
	m := sparkVersionLine.FindStringSubmatch(string(out))
	if m == nil {
		return "", &Fault{Problem: program + " --version names no version", Remedy: "name Spark's own spark-submit in spark_submit"}
	}
	return judgeSpark(m[0], m[1], m[2])
}

// judgeSpark compares a version of Spark with the one that is tested: 4.1.
func judgeSpark(text, major, minor string) (string, error) {
	switch {
	case major != "4":
		return "", &Fault{Problem: "Spark is " + text, Remedy: "use Spark 4.1: models and the streaming application need version 4"}
	case minor != "1":
		return text, &Fault{Warning: true, Problem: "Spark is " + text + ", Lockstep is tested with 4.1", Remedy: "use Spark 4.1 with the Iceberg runtime for it"}
	}
	return text, nil
}

// neededJars are what a class path must hold beside Spark itself.
var neededJars = []string{"iceberg-spark-runtime", "iceberg-aws", "spark-sql-kafka", "kafka-clients", "hadoop-aws"}

func sparkJars(path string) (string, error) {
	if path == "" {
		return "Spark's own, by the setting spark_jars", nil
	}
	var names []string
	for _, element := range filepath.SplitList(path) {
		found, err := filepath.Glob(strings.TrimSuffix(element, "*") + map[bool]string{true: "*.jar"}[strings.HasSuffix(element, "*")])
		if err != nil {
			return "", mend(err, "correct spark_jars (%s)", path)
		}
		for _, f := range found {
			names = append(names, filepath.Base(f))
		}
	}
	var missing []string
	for _, jar := range neededJars {
		if !strings.Contains(" "+strings.Join(names, " "), " "+jar) {
			missing = append(missing, jar)
		}
	}
	if len(missing) > 0 {
		return "", &Fault{Problem: fmt.Sprintf("%s has no %s", path, strings.Join(missing, ", ")), Remedy: "add the jars; deploy/images/spark/pom.xml has the versions that fit"}
	}
	return fmt.Sprintf("%d jars", len(names)), nil
}

// thriftServer is the Thrift Server of the cluster, tried once.
func (e *examination) thriftServer() (spark.Server, error) {
	c := e.config
	s := spark.Server{Address: c.Thrift, Auth: c.ThriftAuth, User: c.ThriftUser, Password: c.ThriftPassword}
	if c.ThriftTLS {
		conf, err := trust("")
		if err != nil {
			return s, err
		}
		s.TLS = conf
	}
	return s, nil
}

// thrift checks the Thrift Server; table says whether the scratch table of the
// catalog is there for it to read and write.
func (e *examination) thrift(ctx context.Context, table bool) {
	var session *spark.Session
	opened := e.Ask(ctx, thriftPart, "log in and select", 3*time.Minute, func(ctx context.Context) (string, error) {
		server, err := e.thriftServer()
		if err != nil {
			return "", err
		}
		if session, err = server.Open(ctx, nil); err != nil {
			return "", mend(err, "start the Thrift Server, or correct thrift (%s), thrift_auth, thrift_user and thrift_password", e.config.Thrift)
		}
		version, err := firstText(ctx, session, "SELECT version()")
		if err != nil {
			return "", mend(err, "see the log of the Thrift Server; an application needs free cores of the worker (spark.cores.max of the others)")
		}
		m := regexp.MustCompile(`^(\d+)\.(\d+)\.\d+`).FindStringSubmatch(version)
		if m == nil {
			return "", &Fault{Problem: "the Thrift Server says its version is " + version, Remedy: "use Spark 4.1"}
		}
		return judgeSpark("version "+m[0], m[1], m[2])
	})
	if session == nil {
		return
	}
	defer session.Close()
	if !opened {
		return
	}
	if !e.Ask(ctx, thriftPart, "its configuration", time.Minute, func(ctx context.Context) (string, error) { return thriftConfiguration(ctx, session) }) {
		return
	}
	const asked = "read and write the table of the catalog"
	if !table {
		e.skip(thriftPart, asked, "the catalog has no table to read")
		return
	}
	e.Ask(ctx, thriftPart, asked, 3*time.Minute, func(ctx context.Context) (string, error) {
		return "Go and Spark see each other's rows", e.exchangeRows(ctx, session)
	})
}

// thriftConfiguration checks what is set when the server starts and cannot be
// set by a session.
func thriftConfiguration(ctx context.Context, session *spark.Session) (string, error) {
	const remedy = "start the Thrift Server with the properties of deploy/images/spark/conf/thrift.conf"
	if _, err := firstText(ctx, session, "SHOW NAMESPACES IN lake"); err != nil {
		return "", mend(fmt.Errorf("there is no usable catalog lake: %w", err), remedy)
	}
	for _, want := range []struct{ key, value, why string }{
		{"spark.sql.catalog.lake.cache-enabled", "false", "it would answer from tables as they were"},
		{"spark.sql.extensions", "IcebergSparkSessionExtensions", "CALL and time travel need it"},
	} {
		have, err := property(ctx, session, want.key)
		if err != nil {
			return "", err
		}
		if !strings.Contains(have, want.value) {
			return "", &Fault{Problem: fmt.Sprintf("%s is %s, not %s: %s", want.key, have, want.value, want.why), Remedy: remedy}
		}
	}
	return "catalog lake, not cached", nil
}

// property reads a property: the value is the second column of SET.
func property(ctx context.Context, session *spark.Session, key string) (string, error) {
	return textAt(ctx, session, "SET `"+key+"`", 1)
}

func firstText(ctx context.Context, session *spark.Session, sql string) (string, error) {
	return textAt(ctx, session, sql, 0)
}

// textAt gives a column of the first row of a result, as text.
func textAt(ctx context.Context, session *spark.Session, sql string, column int) (string, error) {
	text := ""
	first := true
	err := session.Each(ctx, sql, func(b arrow.RecordBatch) error {
		if first && b.NumRows() > 0 {
			first = false
			if column >= int(b.NumCols()) {
				return fmt.Errorf("%q gives %d columns", sql, b.NumCols())
			}
			text = b.Column(column).ValueStr(0)
		}
		return nil
	})
	return text, err
}

// exchangeRows has Spark read the row that Go wrote, to the microsecond, on an
// executor, and Go read what Spark adds.
func (e *examination) exchangeRows(ctx context.Context, session *spark.Session) error {
	const remedy = "the Thrift Server must use the same catalog and object store, and its executors need the jars of deploy/images/spark/pom.xml on spark.executor.extraClassPath"
	var n int64
	err := session.Each(ctx, "SELECT count(*) FROM lake."+e.table()+" WHERE at = TIMESTAMP_NTZ '2017-07-14 02:40:00.123456'", func(b arrow.RecordBatch) error {
		column, ok := b.Column(0).(*array.Int64)
		if !ok {
			return errors.New("count(*) is no bigint")
		}
		n = column.Value(0)
		return nil
	})
	if err != nil {
		return mend(err, remedy)
	}
	if n != 1 {
		return &Fault{Problem: fmt.Sprintf("Spark finds the row %d times, not once", n), Remedy: remedy}
	}
	if err := session.Exec(ctx, "INSERT INTO lake."+e.table()+" VALUES (2, TIMESTAMP_NTZ '2017-07-14 02:40:00.123457')"); err != nil {
		return mend(err, "allow the Thrift Server to commit to tables of the catalog and to write to %s", e.config.Warehouse)
	}
	n, err = e.countTable(ctx)
	if err != nil {
		return mend(err, remedy)
	}
	if n != 2 {
		return &Fault{Problem: fmt.Sprintf("the table has %d rows after Spark added its second", n), Remedy: remedy}
	}
	return nil
}
