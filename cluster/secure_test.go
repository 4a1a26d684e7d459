package cluster

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"lockstep/registry"
)

// secureServer asks for TLS and a login before it lets anybody to a handler; ca
// is the file that a client must trust.
func secureServer(t *testing.T, user, password string, to http.Handler) (server *httptest.Server, ca string) {
	t.Helper()
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
			http.Error(w, "who is it?", http.StatusUnauthorized)
			return
		}
		to.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are to fail
	server.StartTLS()
	t.Cleanup(server.Close)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	return server, ca
}

func TestDoctorSecuredRegistry(t *testing.T) {
	own, err := registry.New(t.Context(), registry.Config{ClientOpts: []kgo.Opt{kgo.SeedBrokers(fakeKafka(t, 1)...)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Close)
	server, ca := secureServer(t, "ann", "a:b", own)
	right := Config{Registry: server.URL, RegistryCA: ca, RegistryUser: "ann", RegistryPassword: "a:b"}
	for _, c := range []struct {
		name   string
		change func(*Config)
		asked  string
		state  string
		texts  []string
	}{
		{"well", func(*Config) {}, "register, check and delete a schema", CheckOK, nil},
		{"no certificate authority", func(c *Config) { c.RegistryCA = "" }, "answers", CheckFailed, []string{"unknown authority", "in registry_ca"}},
		{"wrong password", func(c *Config) { c.RegistryPassword = "a" }, "answers", CheckFailed, []string{"who is it?", "correct registry_user and registry_password"}},
		{"no login", func(c *Config) { c.RegistryUser = "" }, "answers", CheckFailed, []string{"correct registry_user and registry_password"}},
		{"no such file", func(c *Config) { c.RegistryCA += ".none" }, "answers", CheckFailed, []string{"ca.pem.none", "registry_ settings"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := right
			c.change(&config)
			e := examine(t, config)
			e.registry(t.Context())
			e.want(t, c.asked, c.state, c.texts...)
		})
	}
}

// What a real broker says is in apptest/stack, TestSecuredKafka.
func TestDoctorSecuredKafka(t *testing.T) {
	server, ca := secureServer(t, "", "", http.NotFoundHandler()) // for its certificate
	address := fakeKafka(t, 1, kfake.DefaultNumPartitions(1), kfake.TLS(server.TLS.Clone()), kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "ann", "secret"))
	right := Config{Kafka: address, KafkaTLS: true, KafkaCA: ca, KafkaSASL: "scram-sha-512", KafkaUser: "ann", KafkaPassword: "secret"}
	for _, c := range []struct {
		name   string
		change func(*Config)
		state  string
		texts  []string
	}{
		{"well", func(*Config) {}, CheckOK, []string{"1 brokers"}},
		{"no certificate authority", func(c *Config) { c.KafkaCA = "" }, CheckFailed, []string{"unknown authority", "in kafka_ca"}},
		{"no login", func(c *Config) { c.KafkaSASL = "" }, CheckFailed, []string{"set kafka_sasl, kafka_user and kafka_password"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := right
			c.change(&config)
			e := examine(t, config)
			e.kafka(t.Context())
			e.want(t, "answers", c.state, c.texts...)
		})
	}
}
