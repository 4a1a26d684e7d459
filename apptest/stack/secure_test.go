//go:build stack

package stack_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"lockstep/cluster"
	"lockstep/deploy/stack"
)

const (
	secureUser = "lock step"
	plainUser  = "sender"
	// securePassword has what must be quoted where Java reads it, and what a shell
	// or a list would take for its own.
	securePassword = `pa"ss\w,o'r;d $x`
)

// TestSecuredKafka: a broker that wants TLS and a login, of one node beside the
// stack's, whose registry and Thrift Server are behind TLS too. The doctor finds
// it well and names what is set wrong; what replay sends, the stream reads on
// Spark's executors.
func TestSecuredKafka(t *testing.T) {
	s := up(t, stack.Core, stack.Spark)
	k := startSecured(t, s)

	t.Run("faults", func(t *testing.T) {
		// Nobody is where the other parts are: only what is said of Kafka counts.
		nobody := "127.0.0.1:1"
		alone := []string{"LOCKSTEP_KAFKA=" + k.address, "LOCKSTEP_REGISTRY=http://" + nobody, "LOCKSTEP_CATALOG=http://" + nobody, "LOCKSTEP_S3_ENDPOINT=http://" + nobody,
			"LOCKSTEP_S3_ACCESS_KEY=k", "LOCKSTEP_S3_SECRET_KEY=s", "LOCKSTEP_SPARK_SUBMIT=/bin/false", "LOCKSTEP_SPARK_MASTER=local[1]", "LOCKSTEP_THRIFT=" + nobody}
		for _, c := range []struct {
			name  string
			env   []string // instead of the right settings
			texts []string // of what is found, and of its remedy
		}{
			{"wrong password", []string{"LOCKSTEP_KAFKA_PASSWORD=guessed"}, []string{"SASL_AUTHENTICATION_FAILED", "correct kafka_user and kafka_password"}},
			{"wrong password, plain", []string{"LOCKSTEP_KAFKA_SASL=plain", "LOCKSTEP_KAFKA_USER=" + plainUser, "LOCKSTEP_KAFKA_PASSWORD=guessed"}, []string{"SASL_AUTHENTICATION_FAILED", "correct kafka_user and kafka_password"}},
			{"mechanism that it has not", []string{"LOCKSTEP_KAFKA_SASL=scram-sha-256"}, []string{"UNSUPPORTED_SASL_MECHANISM", "set kafka_sasl to a mechanism that the listener offers"}},
			{"no certificate authority", []string{"LOCKSTEP_KAFKA_CA="}, []string{"certificate signed by unknown authority", "name the file", "kafka_ca"}},
			{"name that the certificate has not", []string{"LOCKSTEP_KAFKA=" + strings.Replace(k.address, "127.0.0.1", "localhost", 1)}, []string{"localhost", "subjectAltName"}},
			{"plaintext", []string{"LOCKSTEP_KAFKA_TLS=false"}, []string{"TLS", "set kafka_tls to true"}},
			{"no login", []string{"LOCKSTEP_KAFKA_SASL="}, []string{"SASL", "set kafka_sasl, kafka_user and kafka_password"}},
			{"TLS where there is none", []string{"LOCKSTEP_KAFKA=" + k.plain}, []string{"TLS", "set kafka_tls to false"}},
			{"login where there is none", []string{"LOCKSTEP_KAFKA=" + k.plain, "LOCKSTEP_KAFKA_TLS=false"}, []string{"ILLEGAL_SASL_STATE", "leave kafka_sasl empty"}},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel() // most of it is waiting for nobody
				x := &site{t: t, env: slices.Concat(alone, k.settings(k.ca), c.env), state: t.TempDir(), args: []string{"--env", "cluster"}}
				found := slices.DeleteFunc(x.examined(), func(c cluster.Check) bool { return c.Part != "kafka" })
				if len(found) != 1 || found[0].State != cluster.CheckFailed {
					t.Fatalf("the doctor says of Kafka: %+v", found)
				}
				t.Logf("%s\nmend: %s", found[0].Found, found[0].Remedy)
				for _, text := range c.texts {
					if !strings.Contains(found[0].Found+"\n"+found[0].Remedy, text) {
						t.Errorf("nothing is said of %q: %q, mend: %q", text, found[0].Found, found[0].Remedy)
					}
				}
			})
		}
	})

	t.Run("refused", func(t *testing.T) {
		x := &site{t: t, env: slices.Concat(s.Env(), k.settings(k.ca), []string{"LOCKSTEP_KAFKA_PASSWORD=guessed"}), state: filepath.Join(t.TempDir(), "state"), args: []string{"--env", "cluster"}}
		for _, args := range [][]string{{"replay", "--scale", "0.002"}, {"speed", "--until-idle", "--listen", "127.0.0.1:0"}} {
			if _, errs, code := x.run(args...); code != 1 || !strings.Contains(errs, "correct kafka_user and kafka_password") {
				t.Errorf("exit %d: %s", code, errs)
			}
		}
	})

	t.Run("well", func(t *testing.T) {
		// Relative paths are those of the command's folder, also where Spark works in another one.
		here, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		ca, err := filepath.Rel(here, k.ca)
		if err != nil {
			t.Fatal(err)
		}
		x := &site{t: t, env: slices.Concat(s.Env(), k.settings(ca), k.registry(t, settings(t, s).Registry, ca)), state: filepath.Join(t.TempDir(), "state"), args: []string{"--env", "cluster"}}
		x.must("reset", "--yes")
		t.Cleanup(func() { x.must("reset", "--yes") }) // what lies in the lake has positions of a log that is gone

		for _, c := range x.examined() {
			if c.State != cluster.CheckOK && !strings.Contains(c.Found, "replication 1") {
				t.Errorf("%s %s is %s: %s", c.Part, c.Asked, c.State, c.Found)
			}
		}
		var sent struct {
			Events int64            `json:"events"`
			Topics map[string]int64 `json:"topics"`
		}
		sender := *x // by the other mechanism
		sender.env = append(slices.Clone(x.env), "LOCKSTEP_KAFKA_SASL=plain", "LOCKSTEP_KAFKA_USER="+plainUser)
		sender.mustJSON(&sent, "replay", "--scale", "0.002", "--speed", "max")
		if sent.Events == 0 {
			t.Fatal("replay has sent nothing")
		}
		x.must("speed", "--until-idle", "--listen", "127.0.0.1:0")
		x.env = append(x.env, k.thrift(t, settings(t, s).Thrift)...)
		var counts []string
		for topic := range sent.Topics {
			counts = append(counts, fmt.Sprintf("SELECT '%s', count(*) FROM bronze.%[1]s", topic))
		}
		var read struct {
			Rows [][2]any `json:"rows"`
		}
		x.mustJSON(&read, "query", strings.Join(counts, " UNION ALL "))
		for _, row := range read.Rows {
			if topic, n := row[0].(string), int64(row[1].(float64)); n != sent.Topics[topic] {
				t.Errorf("bronze.%s has %d rows, %d were sent", topic, n, sent.Topics[topic])
			}
		}
		if len(read.Rows) != len(sent.Topics) {
			t.Errorf("there are %d topics of %d", len(read.Rows), len(sent.Topics))
		}
		x.must("verify")
	})
}

// examined is what the doctor says.
func (x *site) examined() (found []cluster.Check) {
	x.t.Helper()
	out, errs, _ := x.run("doctor", "--json")
	if !decode(out, &found) {
		x.t.Fatalf("the doctor says nothing:\n%s\n%s", tail(out), tail(errs))
	}
	return found
}

// secured is a Kafka of one node.
type secured struct {
	address string // of the listener that wants TLS and a login
	plain   string // of the one that wants neither
	ca      string // file
	server  tls.Certificate
}

func (k *secured) settings(ca string) []string {
	return []string{"LOCKSTEP_KAFKA=" + k.address, "LOCKSTEP_KAFKA_TLS=true", "LOCKSTEP_KAFKA_CA=" + ca, "LOCKSTEP_KAFKA_SASL=scram-sha-512",
		"LOCKSTEP_KAFKA_USER=" + secureUser, "LOCKSTEP_KAFKA_PASSWORD=" + securePassword}
}

// registry puts the stack's registry behind TLS and a login.
func (k *secured) registry(t *testing.T, address, ca string) []string {
	t.Helper()
	to, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: to.Scheme, Host: to.Host})
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != secureUser || password != securePassword {
			http.Error(w, "who is it?", http.StatusUnauthorized)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	front.TLS = &tls.Config{Certificates: []tls.Certificate{k.server}}
	front.StartTLS()
	t.Cleanup(front.Close)
	return []string{"LOCKSTEP_REGISTRY=" + front.URL + to.Path, "LOCKSTEP_REGISTRY_CA=" + ca, "LOCKSTEP_REGISTRY_USER=" + secureUser, "LOCKSTEP_REGISTRY_PASSWORD=" + securePassword}
}

// thrift puts the stack's Thrift Server behind TLS, for commands that trust the
// authority as they do those of the system.
func (k *secured) thrift(t *testing.T, address string) []string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{k.server}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", address)
			if err != nil {
				client.Close()
				continue
			}
			pass := func(to, from net.Conn) { // until either side ends
				_, _ = io.Copy(to, from)
				to.Close()
				from.Close()
			}
			go pass(server, client)
			go pass(client, server)
		}
	}()
	return []string{"LOCKSTEP_THRIFT=" + l.Addr().String(), "LOCKSTEP_THRIFT_TLS=true", "SSL_CERT_FILE=" + k.ca}
}

// startSecured starts the node, which ends with the test.
func startSecured(t *testing.T, s *stack.Stack) *secured {
	t.Helper()
	dir := t.TempDir()
	file := func(name string, parts ...string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(strings.Join(parts, "")), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca, server := certificates(t)
	pair, err := tls.X509KeyPair([]byte(server), []byte(server))
	if err != nil {
		t.Fatal(err)
	}
	at := addresses(t, 3)
	k := &secured{address: at[0], plain: at[1], ca: file("ca.pem", ca), server: pair}
	quote := func(s string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"` }
	login := "org.apache.kafka.common.security.plain.PlainLoginModule required user_" + plainUser + "=" + quote(securePassword) + ";"
	listeners := fmt.Sprintf("SECURE://%s,INTERNAL://%s", at[0], at[1])
	properties := file("node.properties", strings.Join([]string{
		"process.roles=broker,controller", "node.id=1", "controller.quorum.voters=1@" + at[2], "log.dirs=" + filepath.Join(dir, "data"),
		"listeners=" + listeners + ",CONTROLLER://" + at[2], "advertised.listeners=" + listeners,
		"controller.listener.names=CONTROLLER", "inter.broker.listener.name=INTERNAL",
		"listener.security.protocol.map=SECURE:SASL_SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"ssl.keystore.type=PEM", "ssl.keystore.location=" + file("server.pem", server),
		"sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN",
		"listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
		"listener.name.secure.plain.sasl.jaas.config=" + strings.ReplaceAll(login, `\`, `\\`),
		"auto.create.topics.enable=false", "group.initial.rebalance.delay.ms=0", "log.cleaner.dedupe.buffer.size=4194304", "num.network.threads=2", "num.io.threads=2",
		"offsets.topic.replication.factor=1", "offsets.topic.num.partitions=1",
		"transaction.state.log.replication.factor=1", "transaction.state.log.min.isr=1", "transaction.state.log.num.partitions=1",
	}, "\n"))
	run := func(args ...string) *exec.Cmd {
		c, err := s.KafkaCommand(args...)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if out, err := run("kafka.tools.StorageTool", "format", "-t", "c2VjdXJlZC1rYWZrYQAAAA", "-c", properties).CombinedOutput(); err != nil {
		t.Fatalf("cannot format the node's folder: %v\n%s", err, out)
	}
	node, log := run("kafka.Kafka", properties), &syncBuffer{}
	node.Stdout, node.Stderr = log, log
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = node.Process.Kill() // nobody needs its data
		_ = node.Wait()
		if t.Failed() {
			t.Logf("the end of the node's log:\n%s", tail(log.String()))
		}
	})
	client, err := kgo.NewClient(kgo.SeedBrokers(k.plain))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	eventually(t, 5*time.Minute, "the node takes a user", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		answer, err := kadm.NewClient(client).AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{
			{User: secureUser, Mechanism: kadm.ScramSha512, Iterations: 4096, Password: securePassword}})
		return errors.Join(err, answer.Error()) == nil
	})
	return k
}

// addresses are free ones.
func addresses(t *testing.T, n int) (out []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // all at once, so that none is given twice
		out = append(out, l.Addr().String())
	}
	return out
}

// certificates are an authority's, and a server's with its key, as PEM.
func certificates(t *testing.T) (ca, server string) {
	t.Helper()
	try := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	template := func(name string) *x509.Certificate {
		serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
		try(err)
		return &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	try(err)
	authority := template("Lockstep's test authority")
	authority.IsCA, authority.BasicConstraintsValid, authority.KeyUsage = true, true, x509.KeyUsageCertSign
	caDER, err := x509.CreateCertificate(rand.Reader, authority, authority, &caKey.PublicKey, caKey)
	try(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	try(err)
	leaf := template("a broker")
	leaf.KeyUsage, leaf.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	leaf.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	der, err := x509.CreateCertificate(rand.Reader, leaf, authority, &key.PublicKey, caKey)
	try(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	try(err)
	ca = text("CERTIFICATE", caDER)
	return ca, text("PRIVATE KEY", keyDER) + text("CERTIFICATE", der) + ca
}
