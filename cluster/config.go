// Package cluster runs a project on the real engines of its field: Kafka, a
// Confluent-compatible registry, Iceberg behind a REST catalog on S3, Spark.
// What the parts of the embedded environment do in one process, it asks of
// them; every command works on both through web.Backend.
package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"github.com/twmb/franz-go/pkg/sr"

	"lockstep/project"
)

// Config says where the parts of a cluster are, and with which credentials.
// Its fields are the settings of an environment of project.yaml, where each
// value may name environment variables: ${NAME}, or ${NAME:-default}.
type Config struct {
	Kafka         []string // kafka: brokers, host:port, parted by commas
	KafkaTLS      bool     // kafka_tls: true or false
	KafkaCA       string   // kafka_ca: file of the certificates to trust, PEM; empty: the system's
	KafkaSASL     string   // kafka_sasl: plain, scram-sha-256, scram-sha-512; empty: none
	KafkaUser     string   // kafka_user
	KafkaPassword string   // kafka_password

	Registry         string // registry: URL, with the path of the Confluent API where it has one
	RegistryUser     string // registry_user: basic authentication; empty: none
	RegistryPassword string // registry_password
	RegistryCA       string // registry_ca: file, PEM

	Catalog           string // catalog: URL of the Iceberg REST catalog
	CatalogToken      string // catalog_token: bearer token; empty: none
	CatalogCredential string // catalog_credential: OAuth2 client id:secret; empty: none
	Warehouse         string // warehouse: s3://bucket or s3://bucket/prefix

	S3Endpoint  string // s3_endpoint: URL; empty: that of Amazon
	S3AccessKey string // s3_access_key
	S3SecretKey string // s3_secret_key
	S3Region    string // s3_region

	SparkSubmit string // spark_submit: the program that starts Spark applications
	SparkMaster string // spark_master: local[2], spark://host:port, yarn, k8s://...
	SparkConf   string // spark_conf: file of further properties; empty: none
	SparkJars   string // spark_jars: class path of the Iceberg, Kafka and S3A jars; empty: Spark has them

	Thrift         string // thrift: host:port of the Spark Thrift Server
	ThriftAuth     string // thrift_auth: NONE, LDAP, NOSASL
	ThriftUser     string // thrift_user
	ThriftPassword string // thrift_password
	ThriftTLS      bool   // thrift_tls

	Trigger string // trigger: shortest time between two micro-batches, such as 1s; 0s: none
	MaxRows int64  // max_rows: records of the log in one micro-batch
}

// setting is one entry of an environment.
type setting struct {
	fallback string
	required bool
	set      func(*Config, string) error
}

func text(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error { *field(c) = v; return nil }
}

// file makes a path absolute: Spark's driver works in a folder of its own.
func file(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) (err error) { *field(c), err = filepath.Abs(v); return err }
}

func truth(field func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, v string) (err error) { *field(c), err = strconv.ParseBool(v); return err }
}

var settings = map[string]setting{
	"kafka":              {required: true, set: func(c *Config, v string) error { c.Kafka = strings.Split(v, ","); return nil }},
	"kafka_tls":          {fallback: "false", set: truth(func(c *Config) *bool { return &c.KafkaTLS })},
	"kafka_ca":           {set: file(func(c *Config) *string { return &c.KafkaCA })},
	"kafka_sasl":         {set: oneOf(func(c *Config) *string { return &c.KafkaSASL }, "", "plain", "scram-sha-256", "scram-sha-512")},
	"kafka_user":         {set: text(func(c *Config) *string { return &c.KafkaUser })},
	"kafka_password":     {set: text(func(c *Config) *string { return &c.KafkaPassword })},
	"registry":           {required: true, set: address(func(c *Config) *string { return &c.Registry })},
	"registry_user":      {set: text(func(c *Config) *string { return &c.RegistryUser })},
	"registry_password":  {set: text(func(c *Config) *string { return &c.RegistryPassword })},
	"registry_ca":        {set: file(func(c *Config) *string { return &c.RegistryCA })},
	"catalog":            {required: true, set: address(func(c *Config) *string { return &c.Catalog })},
	"catalog_token":      {set: text(func(c *Config) *string { return &c.CatalogToken })},
	"catalog_credential": {set: text(func(c *Config) *string { return &c.CatalogCredential })},
	"warehouse":          {required: true, set: address(func(c *Config) *string { return &c.Warehouse })},
	"s3_endpoint":        {set: text(func(c *Config) *string { return &c.S3Endpoint })},
	"s3_access_key":      {set: text(func(c *Config) *string { return &c.S3AccessKey })},
	"s3_secret_key":      {set: text(func(c *Config) *string { return &c.S3SecretKey })},
	"s3_region":          {fallback: "us-east-1", set: text(func(c *Config) *string { return &c.S3Region })},
	"spark_submit":       {fallback: "spark-submit", set: text(func(c *Config) *string { return &c.SparkSubmit })},
	"spark_master":       {fallback: "local[2]", set: text(func(c *Config) *string { return &c.SparkMaster })},
	"spark_conf":         {set: file(func(c *Config) *string { return &c.SparkConf })},
	"spark_jars":         {set: text(func(c *Config) *string { return &c.SparkJars })},
	"thrift":             {required: true, set: text(func(c *Config) *string { return &c.Thrift })},
	"thrift_auth":        {fallback: "NONE", set: oneOf(func(c *Config) *string { return &c.ThriftAuth }, "NONE", "NOSASL", "LDAP")},
	"thrift_user":        {fallback: "lockstep", set: text(func(c *Config) *string { return &c.ThriftUser })},
	"thrift_password":    {set: text(func(c *Config) *string { return &c.ThriftPassword })},
	"thrift_tls":         {fallback: "false", set: truth(func(c *Config) *bool { return &c.ThriftTLS })},
	"trigger":            {fallback: "0s", set: text(func(c *Config) *string { return &c.Trigger })},
	"max_rows": {fallback: "20000", set: func(c *Config, v string) (err error) {
		c.MaxRows, err = strconv.ParseInt(v, 10, 64)
		if err == nil && c.MaxRows < 1 {
			err = errors.New("it must be above 0")
		}
		return err
	}},
}

func oneOf(field func(*Config) *string, allowed ...string) func(*Config, string) error {
	return func(c *Config, v string) error {
		if !slices.Contains(allowed, v) {
			return fmt.Errorf("it must be one of %q", allowed)
		}
		*field(c) = v
		return nil
	}
}

func address(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error {
		u, err := url.Parse(v)
		if err != nil || u.Scheme == "" || u.Host == "" {
			return errors.New("it must be an address with a scheme, such as http://host:port")
		}
		*field(c) = strings.TrimRight(v, "/")
		return nil
	}
}

// variable is ${NAME} or ${NAME:-default}.
var variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}`)

// Read makes the Config of an environment. getenv is os.Getenv but in tests.
// All that is missing or wrong is in the error.
func Read(p *project.Project, env string, getenv func(string) string) (*Config, error) {
	e, ok := p.Environments[env]
	if !ok {
		return nil, fmt.Errorf("cannot use environment %s: project.yaml has no such entry under environments", env)
	}
	c := &Config{}
	var faults []error
	for name := range e.Settings {
		if _, known := settings[name]; !known {
			faults = append(faults, fmt.Errorf("%s: there is no such setting", name))
		}
	}
	for name, s := range settings {
		value, missing := expand(e.Settings[name], getenv)
		if value == "" {
			value = s.fallback
		}
		switch {
		case len(missing) > 0 && s.required:
			faults = append(faults, fmt.Errorf("%s: set the environment variable %s", name, strings.Join(missing, ", ")))
		case value == "" && s.required:
			faults = append(faults, fmt.Errorf("%s: it is missing", name))
		case value != "":
			if err := s.set(c, value); err != nil {
				faults = append(faults, fmt.Errorf("%s: %q cannot be used: %w", name, value, err))
			}
		}
	}
	if len(faults) > 0 {
		slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
		return nil, fmt.Errorf("cannot use environment %s of project.yaml:\n%w\n(`go run ./deploy env` prints the variables of a stack that it started)", env, errors.Join(faults...))
	}
	return c, nil
}

// expand puts in environment variables, and names those that have no value.
func expand(text string, getenv func(string) string) (value string, missing []string) {
	value = variable.ReplaceAllStringFunc(text, func(m string) string {
		parts := variable.FindStringSubmatch(m)
		v := getenv(parts[1])
		if v == "" {
			v = parts[3]
		}
		if v == "" {
			missing = append(missing, parts[1])
		}
		return v
	})
	return value, missing
}

// KafkaOptions is how every client of the log connects.
func (c *Config) KafkaOptions() ([]kgo.Opt, error) {
	opts := []kgo.Opt{kgo.SeedBrokers(c.Kafka...)}
	if c.KafkaTLS {
		conf, err := trust(c.KafkaCA)
		if err != nil {
			return nil, fmt.Errorf("cannot use kafka_ca: %w", err)
		}
		opts = append(opts, kgo.DialTLSConfig(conf))
	}
	switch c.KafkaSASL {
	case "plain":
		opts = append(opts, kgo.SASL(plain.Auth{User: c.KafkaUser, Pass: c.KafkaPassword}.AsMechanism()))
	case "scram-sha-256":
		opts = append(opts, kgo.SASL(scram.Auth{User: c.KafkaUser, Pass: c.KafkaPassword}.AsSha256Mechanism()))
	case "scram-sha-512":
		opts = append(opts, kgo.SASL(scram.Auth{User: c.KafkaUser, Pass: c.KafkaPassword}.AsSha512Mechanism()))
	}
	return opts, nil
}

// RegistryOptions is how every client of the registry connects.
func (c *Config) RegistryOptions() ([]sr.ClientOpt, error) {
	// A registry on Kafka may take seconds for its first schema; the client waits 5 otherwise.
	opts := []sr.ClientOpt{sr.HTTPClient(&http.Client{Timeout: 30 * time.Second})}
	if c.RegistryUser != "" {
		opts = append(opts, sr.BasicAuth(c.RegistryUser, c.RegistryPassword))
	}
	if c.RegistryCA != "" {
		conf, err := trust(c.RegistryCA)
		if err != nil {
			return nil, fmt.Errorf("cannot use registry_ca: %w", err)
		}
		opts = append(opts, sr.DialTLSConfig(conf))
	}
	return opts, nil
}

// trust is a TLS configuration that trusts a file of certificates, or, without
// one, what the system trusts.
func trust(file string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if file == "" {
		return conf, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	conf.RootCAs = x509.NewCertPool()
	if !conf.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return conf, nil
}
