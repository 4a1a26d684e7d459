package cluster

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"lockstep/project"
)

func read(settings map[string]string, env map[string]string) (*Config, error) {
	p := &project.Project{Environments: map[string]project.Environment{"cluster": {Settings: settings}}}
	return Read(p, "cluster", func(name string) string { return env[name] })
}

var enough = map[string]string{
	"kafka": "${K}", "registry": "http://r:8081/", "catalog": "http://c:8181", "warehouse": "s3://${BUCKET:-lake}/x", "thrift": "t:10000",
}

func TestConfig(t *testing.T) {
	c, err := read(enough, map[string]string{"K": "a:1,b:2"})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c.Kafka, []string{"a:1", "b:2"}) || c.Registry != "http://r:8081" || c.Warehouse != "s3://lake/x" {
		t.Errorf("read %+v", c)
	}
	if c.SparkMaster != "local[2]" || c.MaxRows != 20000 || c.ThriftAuth != "NONE" {
		t.Errorf("defaults are %+v", c)
	}
}

func TestConfigFaults(t *testing.T) {
	settings := map[string]string{"kafka_sasl": "gssapi", "registri": "x", "registry": "r:8081", "max_rows": "0", "kafka_tls": "perhaps"}
	for k, v := range enough {
		if settings[k] == "" {
			settings[k] = v
		}
	}
	_, err := read(settings, nil)
	if err == nil {
		t.Fatal("it was accepted")
	}
	for _, part := range []string{"kafka: set the environment variable K", "kafka_sasl", "registri: there is no such setting", "registry: ", "max_rows", "kafka_tls"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not name %q:\n%v", part, err)
		}
	}
}

func TestConfigUnknownEnvironment(t *testing.T) {
	if _, err := Read(&project.Project{}, "cluster", nil); err == nil || !strings.Contains(err.Error(), "project.yaml") {
		t.Errorf("the error is %v", err)
	}
}

// Spark's driver works in a folder of its own.
func TestConfigFiles(t *testing.T) {
	settings := map[string]string{"kafka_ca": "ca.pem", "registry_ca": "/etc/ca.pem"}
	for k, v := range enough {
		settings[k] = v
	}
	c, err := read(settings, map[string]string{"K": "a:1"})
	if err != nil {
		t.Fatal(err)
	}
	here, err := filepath.Abs("ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	if c.KafkaCA != here || c.RegistryCA != "/etc/ca.pem" || c.SparkConf != "" {
		t.Errorf("the files are %q, %q and %q", c.KafkaCA, c.RegistryCA, c.SparkConf)
	}
}
