package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"lockstep/embedded"
	"lockstep/replay"
)

func TestTexts(t *testing.T) {
	for got, want := range map[string]string{
		number(0): "0", number(999): "999", number(1000): "1,000", number(-1234567): "-1,234,567",
		size(12): "12 B", size(1500): "1.5 KB", size(2_000_000): "2 MB", size(7e12): "7.0 TB",
		seconds(0): "0 s", seconds(0.0123): "12.3 ms", seconds(4.05): "4.05 s", seconds(754): "12m34s",
		when(time.Time{}): "never",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "5": 5, "5B": 5, "1.5KB": 1500, "2 MiB": 2 << 20, "3GB": 3e9, "1TiB": 1 << 40} {
		if got, err := parseBytes("f", text); err != nil || got != want {
			t.Errorf("%q: %d %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"x", "-1MB", "0", "GB", "1PB", "9e30TB", "NaN"} {
		if got, err := parseBytes("f", text); err == nil {
			t.Errorf("%q gave %d", text, got)
		}
	}
}

func TestParseSpeed(t *testing.T) {
	if v, err := parseSpeed("max"); v != 0 || err != nil {
		t.Error(v, err)
	}
	for _, text := range []string{"0", "-1", "fast", "Inf", "NaN", ""} {
		if v, err := parseSpeed(text); err == nil {
			t.Errorf("%q gave %v", text, v)
		}
	}
}

var halfWay = embedded.Progress{Replay: replay.Progress{Phase: replay.Sending, Sent: 500, Total: 1000, Rate: 100, Left: 5 * time.Second}, Step: 7, Accepted: 480, Lag: 20}

// TestPlainProgress writes a line at most every few seconds, none twice.
func TestPlainProgress(t *testing.T) {
	var b bytes.Buffer
	m := newMeter(&b)
	m.Progress(halfWay)
	m.Progress(embedded.Progress{Step: 8})
	m.last = m.last.Add(-plainEvery)
	m.Progress(halfWay)
	m.Progress(embedded.Progress{Step: 9})
	if got := b.String(); strings.Count(got, "\n") != 2 || !strings.HasPrefix(got, "replay  50% 500 of 1,000 · 100/s · left 5 s; step 7, 480 records, 0/s, lag 20, dead letters 0; batch idle\n") {
		t.Errorf("%s", got)
	}
}

// TestBars draws over what it drew, fits the terminal, and leaves room for logs.
func TestBars(t *testing.T) {
	var b bytes.Buffer
	m := &meter{w: &b, width: 60, paced: true}
	m.Progress(halfWay)
	for _, line := range strings.Split(b.String(), "\n") {
		if len([]rune(line)) >= 60 {
			t.Errorf("too wide: %s", line)
		}
	}
	if strings.Contains(b.String(), "left") {
		t.Error("a paced replay cannot tell how much time is left")
	}
	b.Reset()
	m.Write([]byte("a log line\n"))
	if got := b.String(); !strings.HasPrefix(got, "\x1b[3A\r\x1b[Ja log line\nreplay ") {
		t.Errorf("%q", got)
	}
	b.Reset()
	m.Close()
	m.Progress(halfWay)
	if b.String() != "\x1b[3A\r\x1b[J" {
		t.Errorf("%q", b.String())
	}
}
