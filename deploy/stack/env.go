package stack

import (
	"fmt"
	"strings"
)

// Env gives the variables that an environment of project.yaml reads (see
// cluster.Config), as NAME=value.
func (s *Stack) Env() []string {
	a := s.Config.Access
	return []string{
		"LOCKSTEP_KAFKA=" + s.kafkaAddresses("external"),
		"LOCKSTEP_REGISTRY=" + s.url("registry", registryPath),
		"LOCKSTEP_CATALOG=" + s.url("catalog", ""),
		"LOCKSTEP_WAREHOUSE=s3://" + a.Bucket,
		"LOCKSTEP_S3_ENDPOINT=" + s.url("minio", ""),
		"LOCKSTEP_S3_ACCESS_KEY=" + a.S3User,
		"LOCKSTEP_S3_SECRET_KEY=" + a.S3Password,
		"LOCKSTEP_S3_REGION=us-east-1",
		"LOCKSTEP_SPARK_SUBMIT=" + s.path("bin", "spark-submit"),
		"LOCKSTEP_SPARK_MASTER=spark://" + s.addr("spark-master"),
		"LOCKSTEP_SPARK_CONF=" + s.path("spark", "stream.conf"),
		"LOCKSTEP_SPARK_JARS=" + s.cached("jars", "spark", "*"),
		"LOCKSTEP_THRIFT=" + s.addr("thrift"),
	}
}

// Exports writes Env for a shell.
func (s *Stack) Exports() string {
	var b strings.Builder
	for _, e := range s.Env() {
		name, value, _ := strings.Cut(e, "=")
		fmt.Fprintf(&b, "export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
	}
	return b.String()
}
