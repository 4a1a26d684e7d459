package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lockstep/embedded"
	"lockstep/replay"
)

// plainEvery is how often progress is written where there is no terminal.
const plainEvery = 5 * time.Second

// meter shows progress: bars at the bottom of a terminal, plain lines
// elsewhere. What is written to it appears above the bars.
type meter struct {
	mu     sync.Mutex
	w      io.Writer
	width  int // of the terminal; 0: it is none
	drawn  int // lines of bars on the screen
	bars   []string
	plain  string // last plain line
	last   time.Time
	closed bool
	paced  bool // the source sets the pace: the rate does not tell when it ends
	alone  bool // there is a replay only: no stream, no batch
}

func newMeter(w io.Writer) *meter {
	return &meter{w: w, width: terminalWidth(w)}
}

// terminalWidth is 0 for what is no terminal, or one that cannot move back.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	if size.Col == 0 {
		return 80
	}
	return int(size.Col)
}

// Write writes above the bars.
func (m *meter) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clear()
	n, err := m.w.Write(p)
	m.draw()
	return n, err
}

// Progress shows how far a run is.
func (m *meter) Progress(p embedded.Progress) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	if m.width > 0 {
		m.clear()
		m.bars = m.barLines(p)
		m.draw()
		return
	}
	if line := m.plainLine(p); line != m.plain && time.Since(m.last) >= plainEvery {
		fmt.Fprintln(m.w, line)
		m.plain, m.last = line, time.Now()
	}
}

// Close removes the bars.
func (m *meter) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clear()
	m.bars, m.closed = nil, true
}

func (m *meter) clear() {
	if m.drawn > 0 {
		fmt.Fprintf(m.w, "\x1b[%dA\r\x1b[J", m.drawn)
		m.drawn = 0
	}
}

func (m *meter) draw() {
	for _, line := range m.bars {
		fmt.Fprintln(m.w, line)
	}
	m.drawn = len(m.bars)
}

func (m *meter) barLines(p embedded.Progress) []string {
	width := m.width
	lines := []string{"replay " + m.replayText(p.Replay, min(30, width-56))}
	if m.alone {
		return []string{clip(lines[0], width-1)}
	}
	lines = append(lines,
		fmt.Sprintf("stream step %s · %s records · %s/s · lag %s · dead letters %s", number(p.Step), number(p.Accepted), number(int64(p.Rate)), number(p.Lag), number(p.Dead)),
		"batch  "+or(p.Batch, "idle"))
	if p.Rebuild != "" {
		lines = append(lines, "rebuild "+p.Rebuild)
	}
	for i, l := range lines {
		lines[i] = clip(l, width-1)
	}
	return lines
}

func (m *meter) replayText(r replay.Progress, width int) string {
	switch {
	case r.Phase == "":
		return "-"
	case r.Phase != replay.Sending && r.Phase != replay.Done:
		return strings.TrimSpace(string(r.Phase) + " " + r.Detail)
	}
	share := 1.0
	if r.Total > 0 {
		share = float64(r.Sent) / float64(r.Total)
	}
	text := fmt.Sprintf("%3.0f%% %s of %s", 100*share, number(r.Sent), number(r.Total))
	if width > 4 {
		filled := int(share * float64(width))
		text = "[" + strings.Repeat("=", filled) + strings.Repeat(" ", width-filled) + "] " + text
	}
	if r.Phase == replay.Done {
		return text
	}
	text += fmt.Sprintf(" · %s/s", number(int64(r.Rate)))
	if r.Left > 0 && !m.paced {
		text += " · left " + duration(r.Left)
	}
	if !r.EventTime.IsZero() {
		text += " · at " + r.EventTime.UTC().Format(time.DateOnly)
	}
	return text
}

func (m *meter) plainLine(p embedded.Progress) string {
	if m.alone {
		return "replay " + m.replayText(p.Replay, 0)
	}
	line := fmt.Sprintf("replay %s; step %d, %d records, %.0f/s, lag %d, dead letters %d; batch %s",
		m.replayText(p.Replay, 0), p.Step, p.Accepted, p.Rate, p.Lag, p.Dead, or(p.Batch, "idle"))
	if p.Rebuild != "" {
		line += "; rebuild " + p.Rebuild
	}
	return line
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func clip(s string, width int) string {
	if r := []rune(s); len(r) > width && width > 0 {
		return string(r[:width])
	}
	return s
}
