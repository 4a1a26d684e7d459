package broker

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// Options configure Open. The zero value of every field but Dir is its default.
type Options struct {
	// Dir is the data directory. It is created when missing. Required.
	Dir string

	// Addr is "host:port" to listen on. Empty: 127.0.0.1 and DefaultPort, or
	// the next free port. When it is given and taken, Open fails. Port 0 takes
	// any free port. A host beyond loopback needs a Credential.
	Addr string
	// Flag is the name of the flag that set Addr, for error messages.
	// Default "--kafka-listen".
	Flag string
	// Advertise is the host that clients are told to connect to. Default: the
	// host of Addr; required when that is a wildcard (0.0.0.0, ::).
	Advertise string
	// Credential must be shown by every client when it is set.
	Credential *Credential
	// TLS, when set, is what the listener speaks.
	TLS *tls.Config

	// RetentionBytes limits each topic partition. Default 8 GiB, at least
	// MinRetentionBytes; negative: no limit. A topic's own retention.bytes wins.
	RetentionBytes int64
	// RetentionAge drops records whose own timestamp is older. Default 0: none.
	// Mind that replayed records carry old timestamps.
	RetentionAge time.Duration
	// SegmentBytes is the size of a segment file. Default 16 MiB. Opening
	// reads one segment of each topic partition into memory at a time.
	SegmentBytes int64
	// MaxMessageBytes is the largest accepted record batch. Default 16 MiB,
	// above Kafka's 1 MiB, so that an outsize record reaches the judge.
	MaxMessageBytes int64
	// MinFreeBytes is the room on the disk below which producing is refused.
	// Default 64 MiB; negative: never refused.
	MinFreeBytes int64
	// NoSync leaves synced writes to the operating system. Then a crash of the
	// machine, not of the process, can lose acknowledged records.
	NoSync bool

	// AutoCreateTopics creates a topic when a client names it.
	AutoCreateTopics bool
	// Partitions is the partition count of topics created without one. Default 3.
	Partitions int

	// Log gets the broker's own messages. Default slog.Default().
	Log *slog.Logger
}

// Credential is the user and password that clients show by SASL: SCRAM-SHA-256
// or SCRAM-SHA-512, and PLAIN when the listener speaks TLS.
type Credential struct {
	User, Password string
}

// Defaults and limits of Options.
const (
	DefaultPort            = 9092
	DefaultRetentionBytes  = 8 << 30
	MinRetentionBytes      = 64 << 20
	DefaultSegmentBytes    = 16 << 20
	DefaultMaxMessageBytes = 16 << 20
	DefaultMinFreeBytes    = 64 << 20
	DefaultPartitions      = 3
)

func (o *Options) setDefaults() {
	setDefault(&o.Flag, "--kafka-listen")
	setDefault(&o.RetentionBytes, DefaultRetentionBytes)
	setDefault(&o.SegmentBytes, DefaultSegmentBytes)
	setDefault(&o.MaxMessageBytes, DefaultMaxMessageBytes)
	setDefault(&o.MinFreeBytes, DefaultMinFreeBytes)
	setDefault(&o.Partitions, DefaultPartitions)
	if o.Log == nil {
		o.Log = slog.Default()
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (o *Options) validate() error {
	switch {
	case o.Dir == "":
		return fmt.Errorf("cannot open the log: no data directory was given")
	case o.RetentionBytes > 0 && o.RetentionBytes < MinRetentionBytes:
		return fmt.Errorf("cannot open the log: retention of %d bytes per topic partition is too small: use at least %d, or a negative number for no limit", o.RetentionBytes, MinRetentionBytes)
	case o.SegmentBytes < 1<<20 || o.SegmentBytes > 1<<30:
		return fmt.Errorf("cannot open the log: segment size of %d bytes: use 1 MiB to 1 GiB", o.SegmentBytes)
	case o.MaxMessageBytes < 1<<10 || o.MaxMessageBytes > 512<<20:
		return fmt.Errorf("cannot open the log: largest message of %d bytes: use 1 KiB to 512 MiB", o.MaxMessageBytes)
	case o.Credential != nil && (o.Credential.User == "" || o.Credential.Password == ""):
		return fmt.Errorf("cannot open the log: the credential needs a user and a password")
	}
	return o.validateAddr()
}

func (o *Options) validateAddr() error {
	if o.Addr == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return fmt.Errorf("cannot listen for Kafka clients on %q: %w: write %s host:port", o.Addr, err, o.Flag)
	}
	if !isLoopback(host) && o.Credential == nil {
		return fmt.Errorf("cannot listen for Kafka clients on %s: it is reachable beyond this machine and no credential is set: set a user and password, or use 127.0.0.1 for %s", o.Addr, o.Flag)
	}
	if isWildcard(host) && o.Advertise == "" {
		return fmt.Errorf("cannot listen for Kafka clients on %s: clients must be told a host to connect to: name an address of this machine in %s", o.Addr, o.Flag)
	}
	return nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func isWildcard(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}
