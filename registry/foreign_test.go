package registry

import (
	"os"
	"os/exec"
	"testing"
)

// TestForeignClient runs librdkafka's Python client against log and registry.
// LOCKSTEP_PYTHON names a Python that has confluent-kafka[avro,schemaregistry].
func TestForeignClient(t *testing.T) {
	python := os.Getenv("LOCKSTEP_PYTHON")
	if python == "" {
		t.Skip("LOCKSTEP_PYTHON is not set")
	}
	f := newFixture(t)
	cmd := exec.CommandContext(t.Context(), python, "../apptest/foreign/confluent_client.py", f.broker.Addrs()[0], f.http.URL)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}
