package broker

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func openTest(t *testing.T, o Options) *Broker {
	t.Helper()
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.Log == nil {
		o.Log = quiet()
	}
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func testClient(t *testing.T, b *Broker, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(b.ClientOpts(), opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func produce(t *testing.T, c *kgo.Client, topic string, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		r := &kgo.Record{Topic: topic, Key: []byte(fmt.Sprint("k", i)), Value: []byte(fmt.Sprint(i))}
		if err := c.ProduceSync(testContext(t), r).FirstErr(); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
}

// readAll gives the values of a topic up to its high watermarks.
func readAll(t *testing.T, b *Broker, topic string) []string {
	t.Helper()
	ctx := testContext(t)
	want := 0
	for _, p := range b.cluster.PartitionInfos(topic) {
		want += int(p.HighWatermark - p.LogStartOffset)
	}
	c := testClient(t, b, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	var values []string
	for len(values) < want {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("after %d of %d records: %v", len(values), want, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return values
}

func TestReopenKeepsRecordsTopicsAndGroups(t *testing.T) {
	dir := t.TempDir()
	ctx := testContext(t)
	b := openTest(t, Options{Dir: dir})
	if err := b.EnsureTopic(ctx, "events", 2, nil); err != nil {
		t.Fatal(err)
	}
	c := testClient(t, b)
	produce(t, c, "events", 0, 50)
	id := b.cluster.TopicInfo("events").TopicID
	offsets := kadm.Offsets{}
	offsets.AddOffset("events", 0, 3, -1)
	if err := kadm.NewClient(c).CommitAllOffsets(ctx, "readers", offsets); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	b = openTest(t, Options{Dir: dir})
	if got := len(readAll(t, b, "events")); got != 50 {
		t.Errorf("after reopening the topic has %d records, want 50", got)
	}
	if b.cluster.TopicInfo("events").TopicID != id {
		t.Error("the topic id changed by reopening")
	}
	s, err := b.Stats(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Groups) != 1 || s.Groups[0].Group != "readers" || s.Groups[0].Topics["events"] == 0 {
		t.Errorf("groups after reopening: %+v", s.Groups)
	}
	var records int64
	for _, p := range s.Topics[0].Partitions {
		records += p.HighWatermark - p.Start
	}
	if records != 50 || len(s.Topics[0].Partitions) != 2 || s.Topics[0].Partitions[0].Bytes == 0 {
		t.Errorf("topics after reopening: %+v", s.Topics)
	}
}

func TestEnsureTopic(t *testing.T) {
	ctx := testContext(t)
	b := openTest(t, Options{Dir: t.TempDir()})
	if err := b.EnsureTopic(ctx, "a", 3, map[string]string{"retention.bytes": "1000000000"}); err != nil {
		t.Fatal(err)
	}
	if err := b.EnsureTopic(ctx, "a", 3, map[string]string{"retention.bytes": "2000000000"}); err != nil {
		t.Fatal(err)
	}
	if got := *b.cluster.TopicInfo("a").Configs["retention.bytes"]; got != "2000000000" {
		t.Errorf("retention.bytes is %s after it was changed", got)
	}
	err := b.EnsureTopic(ctx, "a", 4, nil)
	if !errors.Is(err, ErrPartitions) || !strings.Contains(err.Error(), "it has 3, 4 are wanted") {
		t.Errorf("another partition count gave %v", err)
	}
}

func TestTopicsAreNotMadeByNaming(t *testing.T) {
	ctx := testContext(t)
	b := openTest(t, Options{Dir: t.TempDir()})
	c := testClient(t, b, kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(1))
	err := c.ProduceSync(ctx, &kgo.Record{Topic: "misspelt", Value: []byte("x")}).FirstErr()
	if !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("producing to an undeclared topic gave %v", err)
	}
	b = openTest(t, Options{Dir: t.TempDir(), AutoCreateTopics: true})
	c = testClient(t, b, kgo.AllowAutoTopicCreation())
	if err := c.ProduceSync(ctx, &kgo.Record{Topic: "new", Value: []byte("x")}).FirstErr(); err != nil {
		t.Error(err)
	}
}

func TestLargeRecord(t *testing.T) {
	ctx := testContext(t)
	b := openTest(t, Options{Dir: t.TempDir()})
	if err := b.EnsureTopic(ctx, "large", 1, nil); err != nil {
		t.Fatal(err)
	}
	c := testClient(t, b, kgo.ProducerBatchMaxBytes(64<<20), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err := c.ProduceSync(ctx, &kgo.Record{Topic: "large", Value: make([]byte, 10<<20)}).FirstErr(); err != nil {
		t.Errorf("a record of 10 MiB: %v", err)
	}
	err := c.ProduceSync(ctx, &kgo.Record{Topic: "large", Value: make([]byte, 20<<20)}).FirstErr()
	if !errors.Is(err, kerr.MessageTooLarge) {
		t.Errorf("a record of 20 MiB: %v", err)
	}
}

func TestPorts(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, err = Open(Options{Dir: t.TempDir(), Addr: taken.Addr().String(), Flag: "--kafka", Log: quiet()})
	if err == nil || !strings.Contains(err.Error(), "--kafka") || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("a taken port gave %v", err)
	}

	// The default moves on: two brokers never share it.
	first, err := Open(Options{Dir: t.TempDir(), Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := Open(Options{Dir: t.TempDir(), Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if !second.Moved() || second.Addrs()[0] == first.Addrs()[0] {
		t.Errorf("the second broker is at %v, moved %v", second.Addrs(), second.Moved())
	}
}

func TestOptionsAreChecked(t *testing.T) {
	user := &Credential{User: "u", Password: "p"}
	for _, c := range []struct {
		name string
		o    Options
		want string // part of the error; empty: fine
	}{
		{"no directory", Options{}, "no data directory"},
		{"beyond loopback", Options{Dir: "d", Addr: "192.168.0.1:9092"}, "no credential"},
		{"wildcard", Options{Dir: "d", Addr: "0.0.0.0:9092"}, "no credential"},
		{"empty host", Options{Dir: "d", Addr: ":9092"}, "no credential"},
		{"wildcard without a name", Options{Dir: "d", Addr: "0.0.0.0:9092", Credential: user}, "told a host"},
		{"wildcard with a name", Options{Dir: "d", Addr: "0.0.0.0:9092", Credential: user, Advertise: "h"}, ""},
		{"no port", Options{Dir: "d", Addr: "localhost"}, "host:port"},
		{"loopback", Options{Dir: "d", Addr: "[::1]:9092"}, ""},
		{"small retention", Options{Dir: "d", RetentionBytes: 1}, "too small"},
		{"no retention", Options{Dir: "d", RetentionBytes: -1}, ""},
		{"segment", Options{Dir: "d", SegmentBytes: 5}, "segment size"},
		{"half a credential", Options{Dir: "d", Credential: &Credential{User: "u"}}, "user and a password"},
	} {
		c.o.setDefaults()
		err := c.o.validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestCredentialIsRequired(t *testing.T) {
	dir := t.TempDir()
	ctx := testContext(t)
	b := openTest(t, Options{Dir: dir, Credential: &Credential{User: "ann", Password: "old"}})
	if err := b.EnsureTopic(ctx, "a", 1, nil); err != nil {
		t.Fatalf("the broker's own client: %v", err)
	}
	if err := ping(t, kgo.SeedBrokers(b.Addrs()...)); err == nil {
		t.Error("a client without a credential was served")
	}
	b.Close()

	b = openTest(t, Options{Dir: dir, Credential: &Credential{User: "ann", Password: "new"}})
	login := func(password string) kgo.Opt {
		return kgo.SASL(scram.Auth{User: "ann", Pass: password}.AsSha256Mechanism())
	}
	if err := ping(t, kgo.SeedBrokers(b.Addrs()...), login("new")); err != nil {
		t.Errorf("the new password: %v", err)
	}
	if err := ping(t, kgo.SeedBrokers(b.Addrs()...), login("old")); err == nil {
		t.Error("the old password still counts")
	}
}

func ping(t *testing.T, opts ...kgo.Opt) error {
	t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.RetryTimeout(time.Second))...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(testContext(t), 5*time.Second)
	defer cancel()
	return c.Ping(ctx)
}

func TestTLSAndAdvertise(t *testing.T) {
	ctx := testContext(t)
	b := openTest(t, Options{
		Dir: t.TempDir(), Addr: "0.0.0.0:0", Advertise: "127.0.0.1",
		Credential: &Credential{User: "ann", Password: "secret"}, TLS: selfSigned(t),
	})
	if !strings.HasPrefix(b.Addrs()[0], "127.0.0.1:") {
		t.Errorf("clients are told %v", b.Addrs())
	}
	if err := b.EnsureTopic(ctx, "a", 1, nil); err != nil {
		t.Fatal(err)
	}
	plainLogin := kgo.SASL(plain.Auth{User: "ann", Pass: "secret"}.AsMechanism())
	if err := ping(t, kgo.SeedBrokers(b.Addrs()...), plainLogin, kgo.DialTLSConfig(&tls.Config{InsecureSkipVerify: true})); err != nil {
		t.Errorf("PLAIN over TLS: %v", err)
	}
	if err := ping(t, kgo.SeedBrokers(b.Addrs()...), plainLogin); err == nil {
		t.Error("served without TLS")
	}
}

func selfSigned(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

func TestDirectoryIsLocked(t *testing.T) {
	dir := t.TempDir()
	b := openTest(t, Options{Dir: dir})
	_, err := Open(Options{Dir: dir, Addr: "127.0.0.1:0", Log: quiet()})
	if err == nil || !strings.Contains(err.Error(), "another process has it open") {
		t.Errorf("a second broker on the directory gave %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	openTest(t, Options{Dir: dir})
}

func TestDirectoryThatCannotBeWritten(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Options{Dir: file + "/log", Addr: "127.0.0.1:0", Log: quiet()})
	if err == nil || !strings.Contains(err.Error(), "choose a state directory") {
		t.Errorf("a directory under a file gave %v", err)
	}
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	_, err = Open(Options{Dir: dir, Addr: "127.0.0.1:0", Log: quiet()})
	if err == nil || !strings.Contains(err.Error(), "make it writable") {
		t.Errorf("a read-only directory gave %v", err)
	}
}
