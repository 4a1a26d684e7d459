package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
)

const kafkaPart = "kafka"

func (e *examination) kafka(ctx context.Context) {
	opts, err := e.config.KafkaOptions()
	if err != nil {
		e.Ask(ctx, kafkaPart, "connection", time.Second, func(context.Context) (string, error) {
			return "", mend(err, "correct the kafka_ settings of the environment in project.yaml")
		})
		return
	}
	topic := "lockstep." + e.scratch
	client, err := kgo.NewClient(append(opts, kgo.TransactionalID(topic), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RetryTimeout(20*time.Second), kgo.RecordDeliveryTimeout(30*time.Second))...)
	if err != nil {
		e.Ask(ctx, kafkaPart, "connection", time.Second, func(context.Context) (string, error) {
			return "", mend(err, "correct the kafka_ settings of the environment in project.yaml")
		})
		return
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	admin.SetTimeoutMillis(20_000)
	if !e.Ask(ctx, kafkaPart, "answers", 30*time.Second, func(ctx context.Context) (string, error) { return e.kafkaAnswers(ctx, admin) }) {
		return
	}
	e.Ask(ctx, kafkaPart, "create, describe and delete a topic", time.Minute, func(ctx context.Context) (string, error) {
		return e.kafkaTopic(ctx, admin, client, topic)
	})
	e.Ask(ctx, kafkaPart, "topics of the project", 30*time.Second, func(ctx context.Context) (string, error) { return e.kafkaTopics(ctx, admin) })
}

func (e *examination) kafkaAnswers(ctx context.Context, admin *kadm.Client) (string, error) {
	meta, err := admin.BrokerMetadata(ctx)
	if err != nil {
		return "", e.mendKafka(err, "see that the brokers run and that kafka (%s) is their listener for clients", strings.Join(e.config.Kafka, ","))
	}
	versions, err := admin.ApiVersions(ctx)
	if err != nil {
		return "", e.mendKafka(err, "a broker names an address that cannot be reached from here: set its advertised.listeners")
	}
	version := "of unknown version"
	for _, v := range versions {
		if v.Err != nil {
			return "", e.mendKafka(fmt.Errorf("broker %d does not answer: %w", v.NodeID, v.Err), "start broker %d, or correct its advertised.listeners", v.NodeID)
		}
		version = v.VersionGuess()
	}
	return fmt.Sprintf("%d brokers, %s", len(meta.Brokers), version), nil
}

// mendKafka gives an error of a connection with the setting that it points to,
// else with another remedy.
func (e *examination) mendKafka(err error, otherwise string, args ...any) error {
	if remedy := e.config.kafkaRemedy(err); remedy != "" {
		return mend(err, "%s", remedy)
	}
	return mend(err, otherwise, args...)
}

// explainKafka adds to an error the setting of the log that it points to, if any.
func (c *Config) explainKafka(err error) error {
	var web *url.Error // of the registry, which has settings of its own
	if err == nil || errors.As(err, &web) {
		return err
	}
	if remedy := c.kafkaRemedy(err); remedy != "" {
		return fmt.Errorf("%w: %s", err, remedy)
	}
	return err
}

// kafkaRemedy names the setting that an error of a connection points to, if any.
func (c *Config) kafkaRemedy(err error) string {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var notTLS tls.RecordHeaderError
	said := func(text string) bool { return strings.Contains(err.Error(), text) } // the client's guesses have no types
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return "correct kafka_user and kafka_password; brokers keep the users of each mechanism apart, and kafka_sasl is " + c.KafkaSASL
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		return "set kafka_sasl to a mechanism that the listener offers (sasl.enabled.mechanisms of the brokers), not " + c.KafkaSASL
	case errors.Is(err, kerr.IllegalSaslState):
		return "leave kafka_sasl empty: the listener takes no login; or name another one in kafka"
	case said("is SASL missing?"):
		return "set kafka_sasl, kafka_user and kafka_password: the listener wants a login"
	case errors.As(err, &authority):
		return "name the file with the certificate of the authority that signed the brokers' certificates, in PEM, in kafka_ca"
	case errors.As(err, &name):
		return "name the brokers in kafka as their certificates do, or add the name to the certificates (subjectAltName)"
	case said("is TLS missing?"), said("speaking to a tls endpoint"):
		return "set kafka_tls to true, and kafka_ca unless the system trusts the brokers' certificates: the listener wants TLS"
	case errors.As(err, &notTLS), said("is TLS misconfigured"):
		return "set kafka_tls to false: the listener speaks no TLS; or name another one in kafka"
	}
	return ""
}

// kafkaTopic does what ingest and replay do: it makes a topic, writes in a
// transaction, reads what is committed, and looks at how safe a record is.
func (e *examination) kafkaTopic(ctx context.Context, admin *kadm.Client, client *kgo.Client, topic string) (found string, err error) {
	made, err := admin.CreateTopic(ctx, 1, -1, nil, topic)
	if err = errors.Join(err, made.Err); err != nil {
		return "", mend(fmt.Errorf("cannot create topic %s: %w", topic, err), "allow the user to create topics named after the project's, dlq.* and _lockstep*: kafka-acls --add --operation Create --operation Describe --cluster")
	}
	defer func() {
		answer, derr := admin.DeleteTopic(context.WithoutCancel(ctx), topic)
		if derr = errors.Join(derr, answer.Err); derr != nil && err == nil {
			err = &Fault{Warning: true, Problem: fmt.Sprintf("cannot delete topic %s: %v", topic, derr), Remedy: "delete it by hand; `lockstep reset` needs this permission"}
		}
	}()
	safe, err := replication(ctx, admin, topic)
	if err != nil {
		return "", err
	}
	if err := exchange(ctx, client, topic); err != nil {
		return "", mend(err, "see the brokers' logs; a transaction needs as many brokers as transaction.state.log.min.isr says, and the permissions Write on the transactional id and Read on the topic")
	}
	return safe + ", transactions work", nil
}

// replication compares a topic's replicas with how many of them must have a
// record before it counts.
func replication(ctx context.Context, admin *kadm.Client, topic string) (string, error) {
	detail, err := topicDetail(ctx, admin, topic)
	if err != nil {
		return "", mend(err, "allow the user to describe topics")
	}
	configs, err := admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return "", mend(err, "allow the user DescribeConfigs on topics")
	}
	needed := 1
	config, err := configs.On(topic, nil)
	if err != nil || config.Err != nil {
		return "", mend(errors.Join(err, config.Err), "allow the user DescribeConfigs on topics")
	}
	for _, c := range config.Configs {
		if c.Key == "min.insync.replicas" && c.Value != nil {
			if needed, err = strconv.Atoi(*c.Value); err != nil {
				return "", fmt.Errorf("min.insync.replicas of topic %s is %q", topic, *c.Value)
			}
		}
	}
	replicas := detail.Partitions.NumReplicas()
	text := fmt.Sprintf("replication %d, min.insync %d", replicas, needed)
	switch {
	case replicas < needed:
		return "", &Fault{Problem: text + ": no write can be acknowledged", Remedy: "raise default.replication.factor of the brokers, or lower min.insync.replicas"}
	case replicas == 1:
		return text, &Fault{Warning: true, Problem: text + ": what a broker loses is lost", Remedy: "use three brokers, default.replication.factor=3 and min.insync.replicas=2"}
	case replicas == needed:
		return text, &Fault{Warning: true, Problem: text + ": writes stop when one broker is away", Remedy: "have one replica more than min.insync.replicas: default.replication.factor=3"}
	}
	return text, nil
}

// topicDetail waits until a topic that was just made has leaders.
func topicDetail(ctx context.Context, admin *kadm.Client, topic string) (kadm.TopicDetail, error) {
	for {
		details, err := admin.ListTopics(ctx, topic)
		if err != nil {
			return kadm.TopicDetail{}, err
		}
		d := details[topic]
		if d.Err == nil && len(d.Partitions) > 0 && d.Partitions[0].Leader >= 0 {
			return d, nil
		}
		if d.Err != nil && !errors.Is(d.Err, kerr.UnknownTopicOrPartition) {
			return d, d.Err
		}
		select {
		case <-ctx.Done():
			return d, fmt.Errorf("topic %s has no leader: %w", topic, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// exchange writes a record in a transaction and reads it back.
func exchange(ctx context.Context, client *kgo.Client, topic string) error {
	if err := client.BeginTransaction(); err != nil {
		return fmt.Errorf("cannot begin a transaction: %w", err)
	}
	if err := client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("doctor")}).FirstErr(); err != nil {
		return errors.Join(fmt.Errorf("cannot write to topic %s: %w", topic, err), client.EndTransaction(ctx, kgo.TryAbort))
	}
	if err := client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("cannot commit a transaction: %w", err)
	}
	for {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return fmt.Errorf("cannot read topic %s: %w", topic, err)
		}
		for _, fault := range fetches.Errors() {
			if !errors.Is(fault.Err, kerr.UnknownTopicOrPartition) && !kerr.IsRetriable(fault.Err) {
				return fmt.Errorf("cannot read topic %s: %w", topic, fault.Err)
			}
		}
		if fetches.NumRecords() > 0 {
			return nil
		}
	}
}

// kafkaTopics looks at the topics of the project that exist.
func (e *examination) kafkaTopics(ctx context.Context, admin *kadm.Client) (string, error) {
	var names []string
	for _, s := range e.project.Sources {
		names = append(names, s.Topic)
	}
	details, err := admin.ListTopics(ctx, names...)
	if err != nil {
		return "", mend(err, "allow the user to describe the project's topics")
	}
	present := 0
	var ill, behind []string
	for _, d := range details.Sorted() {
		if errors.Is(d.Err, kerr.UnknownTopicOrPartition) {
			continue
		}
		if d.Err != nil {
			return "", mend(fmt.Errorf("topic %s: %w", d.Topic, d.Err), "allow the user Read and Describe on topic %s", d.Topic)
		}
		present++
		for _, p := range d.Partitions.Sorted() {
			if p.Leader < 0 || p.Err != nil {
				ill = append(ill, fmt.Sprintf("%s/%d", d.Topic, p.Partition))
			} else if len(p.ISR) < len(p.Replicas) {
				behind = append(behind, fmt.Sprintf("%s/%d", d.Topic, p.Partition))
			}
		}
	}
	text := fmt.Sprintf("%d of %d exist", present, len(names))
	switch {
	case len(ill) > 0:
		return "", &Fault{Problem: "topic partitions without a leader: " + some(ill), Remedy: "start the brokers that hold them"}
	case len(behind) > 0:
		return text, &Fault{Warning: true, Problem: "topic partitions with replicas out of step: " + some(behind), Remedy: "wait for the brokers that were away, or start them"}
	case present < len(names):
		text += "; `lockstep replay` makes the others"
	}
	return text, nil
}

// some names the first few of a list.
func some(list []string) string {
	const few = 3
	slices.Sort(list)
	if len(list) <= few {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:few], ", "), len(list)-few)
}

const registryPart = "registry"

func (e *examination) registry(ctx context.Context) {
	opts, err := e.config.RegistryOptions()
	var client *sr.Client
	if err == nil {
		client, err = sr.NewClient(append(opts, sr.URLs(e.config.Registry))...)
	}
	answers := e.Ask(ctx, registryPart, "answers", 30*time.Second, func(ctx context.Context) (string, error) {
		if err != nil {
			return "", mend(err, "correct the registry_ settings of the environment in project.yaml")
		}
		subjects, err := client.Subjects(ctx)
		if err != nil {
			return "", mend(err, "%s", e.config.registryRemedy(err))
		}
		return fmt.Sprintf("%d subjects", len(subjects)), nil
	})
	if answers {
		e.Ask(ctx, registryPart, "register, check and delete a schema", time.Minute, func(ctx context.Context) (string, error) {
			return registerScratch(ctx, client, "lockstep."+e.scratch)
		})
	}
}

// registryRemedy names the setting that an error of the registry points to.
func (c *Config) registryRemedy(err error) string {
	var authority x509.UnknownAuthorityError
	var answer *sr.ResponseError
	switch {
	case errors.As(err, &authority):
		return "name the file with the certificate of the authority that signed the registry's certificate, in PEM, in registry_ca"
	case errors.As(err, &answer) && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden):
		return "correct registry_user and registry_password"
	}
	return fmt.Sprintf("see that the registry runs and that registry (%s) ends with the path of its Confluent API", c.Registry)
}

func registerScratch(ctx context.Context, client *sr.Client, subject string) (found string, err error) {
	schema := func(fields string) sr.Schema {
		return sr.Schema{Type: sr.TypeAvro, Schema: `{"type":"record","name":"doctor","fields":[` + fields + `]}`}
	}
	defer func() { // also what was registered although its answer was lost
		ctx := context.WithoutCancel(ctx)
		_, soft := client.DeleteSubject(ctx, subject, sr.SoftDelete)
		_, hard := client.DeleteSubject(ctx, subject, sr.HardDelete)
		if derr := errors.Join(soft, hard); derr != nil && err == nil {
			err = &Fault{Warning: true, Problem: fmt.Sprintf("cannot delete subject %s: %v", subject, derr), Remedy: "delete it by hand; `lockstep reset` needs this permission"}
		}
	}()
	made, err := client.CreateSchema(ctx, subject, schema(`{"name":"a","type":"long"}`))
	if err != nil {
		return "", mend(fmt.Errorf("cannot register subject %s: %w", subject, err), "allow the user to write subjects; a registry in mode READONLY must be set to READWRITE")
	}
	if r := client.SetCompatibility(ctx, sr.SetCompatibility{Level: sr.CompatBackward}, subject)[0]; r.Err != nil {
		return "", mend(fmt.Errorf("cannot set the compatibility of subject %s: %w", subject, r.Err), "allow the user to write the configuration of subjects")
	}
	_, err = client.CreateSchema(ctx, subject, schema(`{"name":"a","type":"long"},{"name":"b","type":"long"}`))
	if err == nil {
		return "", &Fault{Problem: "a schema that cannot read older records was accepted", Remedy: "use a registry that checks compatibility: Confluent's, Apicurio or Karapace"}
	}
	if _, err := client.SchemaByID(ctx, made.ID); err != nil {
		return "", mend(fmt.Errorf("cannot read schema %d: %w", made.ID, err), "allow the user to read schemas by id")
	}
	return "incompatible schemas are refused", nil
}
