package registry

import (
	"cmp"
	"context"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"lockstep/broker"
)

// Topic is where the schemas are kept.
const Topic = "_schemas"

// Config configures New.
type Config struct {
	// ClientOpts reach the log: seed brokers and, where one is needed, a
	// credential. Required. See broker.Broker.ClientOpts.
	ClientOpts []kgo.Opt
	// Compatibility counts where neither the subject nor the global config
	// says another. Default BACKWARD.
	Compatibility string
	// Credential, when set, must be shown by every request (HTTP basic).
	Credential *Credential
	// WriteTimeout limits how long a write waits for the log. Default 15 s.
	WriteTimeout time.Duration
	// Log gets the registry's own messages. Default slog.Default().
	Log *slog.Logger
}

// Credential is what HTTP basic authentication must show.
type Credential struct {
	User, Password string
}

// Server is the registry. It is an http.Handler.
type Server struct {
	log        *schemaLog
	client     *kgo.Client
	credential *Credential
	routes     http.Handler
}

// New makes the topic where it is missing, reads it to its end and serves it.
// It needs the log only for ctx's time; Close ends the following.
func New(ctx context.Context, c Config) (*Server, error) {
	level := cmp.Or(c.Compatibility, compatBackward)
	if _, ok := levels[level]; !ok {
		return nil, fmt.Errorf("cannot start the registry: compatibility level %q is unknown: use NONE, BACKWARD, FORWARD or FULL, or one of them with _TRANSITIVE", level)
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	opts := append([]kgo.Opt{
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), // partition 0
		kgo.FetchMaxWait(time.Second),
		kgo.ProducerLinger(0),
		kgo.MetadataMinAge(250 * time.Millisecond), // a log that is back is found soon
		kgo.RetryBackoffFn(func(tries int) time.Duration { return min(time.Duration(tries)*100*time.Millisecond, time.Second) }),
	}, c.ClientOpts...)
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("cannot make the registry's client of the log: %w", err)
	}
	s := &Server{client: client, credential: c.Credential}
	if err := s.open(ctx, c, level); err != nil {
		client.Close()
		return nil, fmt.Errorf("cannot start the registry: %w", err)
	}
	s.routes = s.newRoutes()
	return s, nil
}

func (s *Server) open(ctx context.Context, c Config, level string) error {
	configs := map[string]string{"cleanup.policy": "compact", "retention.bytes": "-1", "retention.ms": "-1"}
	if err := broker.EnsureTopic(ctx, kadm.NewClient(s.client), Topic, 1, configs); err != nil {
		return err
	}
	var err error
	s.log, err = openLog(ctx, s.client, Topic, newState(level), cmp.Or(c.WriteTimeout, 15*time.Second), c.Log)
	return err
}

// Close stops following the log. Requests fail afterwards.
func (s *Server) Close() {
	s.log.close()
	s.client.Close()
}

// Counts are the registry's sizes, for metrics: subjects, and schema ids that
// are in use.
func (s *Server) Counts() (subjects, schemas int) {
	s.log.read(func(st *state) error {
		for _, name := range st.subjectNames() {
			if len(st.live(name)) > 0 {
				subjects++
			}
		}
		schemas = len(st.schemas)
		return nil
	})
	return subjects, schemas
}

// ServeHTTP answers Confluent's REST requests.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c := s.credential; c != nil && !c.shownBy(r) {
		w.Header().Set("WWW-Authenticate", `Basic realm="schema registry"`)
		writeError(w, fail(http.StatusUnauthorized, "Unauthorized"))
		return
	}
	s.routes.ServeHTTP(w, r)
}

func (c *Credential) shownBy(r *http.Request) bool {
	user, password, ok := r.BasicAuth()
	sameUser := subtle.ConstantTimeCompare([]byte(user), []byte(c.User))
	samePassword := subtle.ConstantTimeCompare([]byte(password), []byte(c.Password))
	return ok && sameUser&samePassword == 1
}
