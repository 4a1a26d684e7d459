package olist_test

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"lockstep/project"
	"lockstep/replay"
)

// BenchmarkReplay replays the generated project into a log on disk, as fast as
// it goes. LOCKSTEP_SCALE sets the scale; the figures of one run tell all.
func BenchmarkReplay(b *testing.B) {
	scale, p := scaleAndProject(b)
	for b.Loop() {
		replayOnce(b, replay.Config{Project: p, Scale: scale, Seed: 1, Data: os.Getenv("LOCKSTEP_RAW"), MemoryLimit: memoryLimit()})
	}
}

// memoryLimit is for preparing, in bytes; 0: the default.
func memoryLimit() int64 {
	mb, _ := strconv.ParseInt(os.Getenv("LOCKSTEP_LIMIT_MB"), 10, 64)
	return mb << 20
}

func scaleAndProject(b *testing.B) (float64, *project.Project) {
	b.Helper()
	p, err := project.Load(os.DirFS("."))
	if err != nil {
		b.Fatal(err)
	}
	scale, err := strconv.ParseFloat(cmp.Or(os.Getenv("LOCKSTEP_SCALE"), "0.1"), 64)
	if err != nil {
		b.Fatal(err)
	}
	return scale, p
}

func replayOnce(b *testing.B, c replay.Config) {
	dir := b.TempDir()
	options := []kfake.Opt{kfake.NumBrokers(1), kfake.DataDir(dir)}
	if os.Getenv("LOCKSTEP_SYNC") != "" {
		options = append(options, kfake.SyncWrites())
	}
	k, err := kfake.NewCluster(options...)
	if err != nil {
		b.Fatal(err)
	}
	defer k.Close()
	fake := srfake.New()
	defer fake.Close()
	if c.Registry, err = sr.NewClient(sr.URLs(fake.URL())); err != nil {
		b.Fatal(err)
	}
	switch os.Getenv("LOCKSTEP_COMPRESSION") {
	case "none":
		c.ClientOptions = []kgo.Opt{kgo.ProducerBatchCompression(kgo.NoCompression())}
	case "lz4":
		c.ClientOptions = []kgo.Opt{kgo.ProducerBatchCompression(kgo.Lz4Compression())}
	case "zstd":
		c.ClientOptions = []kgo.Opt{kgo.ProducerBatchCompression(kgo.ZstdCompression())}
	}
	c.Brokers, c.WorkDir = k.ListenAddrs(), b.TempDir()
	var first time.Time
	var before, prepared, resident float64
	c.Progress = func(p replay.Progress) {
		if p.Phase == replay.Sending {
			resident = memory()
		}
		if p.Phase == replay.Sending && first.IsZero() {
			first, before, prepared = time.Now(), cpu(), maxMemory()
		}
	}
	began, started := time.Now(), cpu()
	got, err := replay.Run(context.Background(), c)
	if err != nil {
		b.Fatal(err)
	}
	events := float64(got.Events)
	b.ReportMetric(events, "events")
	b.ReportMetric(first.Sub(began).Seconds(), "s_to_first")
	b.ReportMetric((before-started)/events*1e6, "cpu_us_prepare/event")
	b.ReportMetric(events/time.Since(first).Seconds(), "events/s")
	b.ReportMetric((cpu()-before)/events*1e6, "cpu_us_send/event")
	b.ReportMetric(folderBytes(b, dir)/events, "log_bytes/event")
	b.ReportMetric(prepared, "MB_max_prepare")
	b.ReportMetric(resident, "MB_sending")
	b.ReportMetric(maxMemory(), "MB_max")
}

func folderBytes(b *testing.B, dir string) float64 {
	total := int64(0)
	err := filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return float64(total)
}

// BenchmarkPrepare generates and sorts events without sending them.
func BenchmarkPrepare(b *testing.B) {
	scale, p := scaleAndProject(b)
	for b.Loop() {
		began := cpu()
		events, err := replay.Open(context.Background(), replay.Config{Project: p, Scale: scale, Seed: 1, WorkDir: b.TempDir(), MemoryLimit: memoryLimit()})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric((cpu()-began)/float64(events.Total())*1e6, "cpu_us/event")
		b.ReportMetric(float64(events.Total()), "events")
		b.ReportMetric(maxMemory(), "MB_max")
		events.Close()
	}
}

// cpu is the time that this process has used, in seconds.
func cpu() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// memory is what this process holds now, in MB; 0 where that is not known.
func memory() float64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	pages, err := strconv.ParseFloat(strings.Fields(string(text))[1], 64)
	if err != nil {
		return 0
	}
	return pages * float64(os.Getpagesize()) / 1e6
}

// maxMemory is the most that this process ever held, in MB.
func maxMemory() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	unit := 1024.0
	if runtime.GOOS == "darwin" {
		unit = 1
	}
	return float64(u.Maxrss) * unit / 1e6
}
