package stack

import _ "embed"

// kafkaJMX chooses and names the metrics of a Kafka node.
//
//go:embed kafka-jmx.yaml
var kafkaJMX string
