package stack

import (
	"bytes"
	_ "embed"
	"fmt"
	"strings"
	"text/template"
)

//go:embed compose.yaml.tmpl
var composeTemplate string

// Compose makes the files for docker users, by their path in deploy/: compose.yaml,
// and what the images of deploy/images are built from.
func (c *Config) Compose() (map[string]string, error) {
	compose, err := c.composeYAML()
	if err != nil {
		return nil, fmt.Errorf("cannot make compose.yaml: %w", err)
	}
	thrift := sparkPlace{master: "spark://spark-master:7077", catalog: "http://catalog:8181", s3: "http://minio:9000",
		driver: "thrift", bind: "0.0.0.0", jars: "/opt/jars/*", warehouse: "/work/warehouse"}
	stream := thrift
	stream.driver = "speed"
	const page = 4040
	out := map[string]string{
		"compose.yaml":                         compose,
		"images/spark/conf/thrift.conf":        properties(c.thriftProperties(thrift, page)),
		"images/spark/conf/stream.conf":        properties(c.streamProperties(stream, page)),
		"images/spark/conf/metrics.properties": sparkMetrics,
		"images/spark/conf/log4j2.properties":  sparkLog,
		"images/spark/requirements.txt":        strings.Join(c.Python["spark"], "\n") + "\n",
		"images/superset/requirements.txt":     strings.Join(c.Python["superset-image"], "\n") + "\n",
	}
	for image, jars := range map[string]string{"kafka": "jmx", "catalog": "catalog", "spark": "spark"} {
		if out["images/"+image+"/pom.xml"], err = pomOf(c.Jars[jars]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// setting is a variable of a container.
type setting struct{ Name, Value string }

func (c *Config) composeYAML() (string, error) {
	port := func(name string) (int, error) {
		offset, ok := c.Ports[name]
		if !ok {
			return 0, fmt.Errorf("stack.yaml has no port %q", name)
		}
		return c.FirstPort + offset, nil
	}
	t, err := template.New("compose.yaml").Funcs(template.FuncMap{"port": port}).Option("missingkey=error").Parse(composeTemplate)
	if err != nil {
		return "", err
	}
	var nodes []int
	for n := 1; n <= kafkaNodes; n++ {
		nodes = append(nodes, n)
	}
	var b bytes.Buffer
	err = t.Execute(&b, struct {
		*Config
		Nodes       []int
		KafkaCommon []setting
		Catalog     []string
	}{c, nodes, kafkaVariables(), c.catalogProperties("0.0.0.0", 8181, "postgres:5432", "http://minio:9000")})
	return b.String(), err
}

// kafkaVariables are the properties of a node as its image takes them.
func kafkaVariables() (out []setting) {
	for _, line := range kafkaCommon {
		name, value, _ := strings.Cut(line, "=")
		out = append(out, setting{"KAFKA_" + strings.ToUpper(strings.ReplaceAll(name, ".", "_")), value})
	}
	return out
}
