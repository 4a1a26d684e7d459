package olist_test

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"lockstep/project"
	"lockstep/replay"
)

// BenchmarkReplay replays the generated project into a log on disk, as fast as
// it goes. LOCKSTEP_SCALE sets the scale; the figures of one run tell all.
func BenchmarkReplay(b *testing.B) {
	scale := 0.1
	if s := os.Getenv("LOCKSTEP_SCALE"); s != "" {
		var err error
		if scale, err = strconv.ParseFloat(s, 64); err != nil {
			b.Fatal(err)
		}
	}
	p, err := project.Load(os.DirFS("."))
	if err != nil {
		b.Fatal(err)
	}
	limit, _ := strconv.ParseInt(os.Getenv("LOCKSTEP_LIMIT_MB"), 10, 64) // 0: the default
	for b.Loop() {
		replayOnce(b, replay.Config{Project: p, Scale: scale, Seed: 1, Data: os.Getenv("LOCKSTEP_RAW"), MemoryLimit: limit << 20})
	}
}

func replayOnce(b *testing.B, c replay.Config) {
	options := []kfake.Opt{kfake.NumBrokers(1), kfake.DataDir(b.TempDir())}
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
	b.ReportMetric(prepared, "MB_max_prepare")
	b.ReportMetric(resident, "MB_sending")
	b.ReportMetric(maxMemory(), "MB_max")
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
