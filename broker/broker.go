package broker

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Broker is an open log. Close it to leave the directory to another process.
type Broker struct {
	opts    Options
	cluster *kfake.Cluster
	log     *logger
	lock    *os.File
	addr    string
	moved   bool
	client  *kgo.Client
	admin   *kadm.Client
	space   *spaceGuard

	stop      chan struct{}
	upkeep    sync.WaitGroup
	closeOnce sync.Once
	closeErr  error
}

// Open opens the log in o.Dir, or makes a new one, and serves it to Kafka
// clients. Errors say what to do; a damaged log is refused and left as it is.
func Open(o Options) (*Broker, error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	lock, err := prepareDir(o.Dir)
	if err != nil {
		return nil, err
	}
	b := &Broker{opts: o, lock: lock, log: &logger{log: o.Log}, stop: make(chan struct{})}
	if err := b.start(); err != nil {
		lock.Close()
		return nil, err
	}
	return b, nil
}

func (b *Broker) start() error {
	if err := recoverDir(b.opts.Dir, b.opts.Log); err != nil {
		return err
	}
	ln, moved, err := listen(&b.opts)
	if err != nil {
		return err
	}
	b.moved = moved
	if err := b.startCluster(ln); err != nil {
		ln.Close()
		return err
	}
	b.client, err = kgo.NewClient(b.ClientOpts()...)
	if err != nil {
		b.cluster.Close()
		return fmt.Errorf("cannot make the log's own client: %w", err)
	}
	b.admin = kadm.NewClient(b.client)
	b.space = newSpaceGuard(b.cluster, b.opts)
	b.upkeep.Go(b.runUpkeep)
	return nil
}

// startCluster hands the listener to kfake and remembers the address that
// clients are told.
func (b *Broker) startCluster(ln net.Listener) error {
	if b.opts.Advertise != "" {
		ln = advertised{ln, b.opts.Advertise}
	}
	b.addr = ln.Addr().String()
	// kfake writes its users down and reads them back over the ones it is
	// given: a changed password would not count.
	if err := os.Remove(filepath.Join(b.opts.Dir, "sasl.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot reset the log's users: %w", err)
	}
	cluster, err := kfake.NewCluster(b.clusterOpts(ln)...)
	if err != nil {
		return fmt.Errorf("cannot open the log in %s: %w: restore the directory from a copy, or remove it to start an empty log", b.opts.Dir, err)
	}
	b.cluster = cluster
	return nil
}

func (b *Broker) clusterOpts(ln net.Listener) []kfake.Opt {
	o := b.opts
	opts := []kfake.Opt{
		kfake.NumBrokers(1), // one log, one listener
		kfake.ListenFn(func(string, string) (net.Listener, error) { return ln, nil }),
		kfake.DataDir(o.Dir),
		kfake.ClusterID("lockstep"),
		kfake.DefaultNumPartitions(o.Partitions),
		kfake.WithLogger(b.log),
		kfake.BrokerConfigs(brokerConfigs(o)),
	}
	if !o.NoSync {
		opts = append(opts, kfake.SyncWrites())
	}
	if o.AutoCreateTopics {
		opts = append(opts, kfake.AllowAutoTopicCreation())
	}
	if o.TLS != nil {
		opts = append(opts, kfake.TLS(o.TLS))
	}
	return append(opts, saslOpts(o)...)
}

func brokerConfigs(o Options) map[string]string {
	retention := o.RetentionBytes
	if retention < 0 {
		retention = -1
	}
	return map[string]string{
		"default.replication.factor": "1",
		"min.insync.replicas":        "1",
		"message.max.bytes":          strconv.FormatInt(o.MaxMessageBytes, 10),
		"log.segment.bytes":          strconv.FormatInt(o.SegmentBytes, 10),
		"log.retention.bytes":        strconv.FormatInt(retention, 10),
		"log.retention.ms":           "-1", // by age: see applyRetentionAge
		// kfake's own ticker compacts, which a crash can turn into loss; the
		// upkeep calls only its retention. 292 years.
		"log.cleaner.backoff.ms": strconv.FormatInt(math.MaxInt64/1_000_000, 10),
	}
}

func saslOpts(o Options) []kfake.Opt {
	if o.Credential == nil {
		return nil
	}
	user, password := o.Credential.User, o.Credential.Password
	opts := []kfake.Opt{
		kfake.EnableSASL(),
		kfake.Superuser("SCRAM-SHA-256", user, password),
		kfake.Superuser("SCRAM-SHA-512", user, password),
	}
	if o.TLS != nil {
		opts = append(opts, kfake.Superuser("PLAIN", user, password))
	}
	return opts
}

// Addrs are the bootstrap addresses, "host:port".
func (b *Broker) Addrs() []string { return []string{b.addr} }

// Moved reports whether the default port was taken and another was chosen. The
// caller tells the user.
func (b *Broker) Moved() bool { return b.moved }

// ClientOpts are the options of a kgo client in this process: address and,
// where one is needed, credential.
func (b *Broker) ClientOpts() []kgo.Opt {
	opts := []kgo.Opt{kgo.SeedBrokers(b.addr)}
	if c := b.opts.Credential; c != nil {
		opts = append(opts, kgo.SASL(scram.Auth{User: c.User, Pass: c.Password}.AsSha512Mechanism()))
	}
	if b.opts.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(ownTLS(b.opts.TLS)))
	}
	return opts
}

// Close saves what makes the next Open quick and releases the directory. All
// acknowledged records are on the disk already. An error says that the save
// failed; the next Open then reads the segments instead.
func (b *Broker) Close() error {
	b.closeOnce.Do(func() {
		close(b.stop)
		b.upkeep.Wait()
		b.client.Close()
		b.cluster.Close()
		if _, failure := b.log.failures(); failure != "" {
			b.closeErr = fmt.Errorf("cannot save the log's state in %s: %s", b.opts.Dir, failure)
		} else if err := markClean(b.opts.Dir); err != nil {
			b.closeErr = fmt.Errorf("cannot save the log's state in %s: %w", b.opts.Dir, err)
		}
		if err := b.lock.Close(); err != nil && b.closeErr == nil {
			b.closeErr = fmt.Errorf("cannot unlock the log's directory %s: %w", b.opts.Dir, err)
		}
	})
	return b.closeErr
}
