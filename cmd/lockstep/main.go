// Command lockstep runs domain projects: one SQL text per model, as batch and
// as stream, always the same rows. Each verb has a file of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"lockstep/embedded"
)

// Exit codes that scripts depend on.
const (
	exitFine   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, open: openEmbedded}
	os.Exit(a.main(os.Args[1:]))
}

func openEmbedded(ctx context.Context, c embedded.Config) (instance, error) {
	return embedded.Open(ctx, c)
}

// main runs one command line and gives the exit code.
func (a *app) main(args []string) int {
	ctx, stop := a.untilSignal()
	defer stop()
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.ExecuteContext(ctx)
	var usage *usageError
	switch {
	case err == nil:
		return exitFine
	case errors.As(err, &usage) || !a.started:
		fmt.Fprintf(a.stderr, "lockstep: %v; `lockstep --help` shows commands and flags\n", err)
		return exitUsage
	}
	if message := err.Error(); message != "" {
		fmt.Fprintf(a.stderr, "lockstep: %s\n", message)
	}
	return exitFailed
}

// usageError is a command line that asks for something that does not exist.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// untilSignal gives a context that ends with the first Ctrl-C or SIGTERM. The
// second one ends the process at once: the state survives that.
func (a *app) untilSignal() (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		if _, ok := <-signals; !ok {
			return
		}
		a.interrupted.Store(true)
		a.say("stopping; once more ends it at once\n")
		cancel()
		if _, ok := <-signals; ok {
			os.Exit(exitFailed)
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		cancel()
	}
}

// say writes a message for people to the standard error, around the progress
// bars if there are any.
func (a *app) say(format string, args ...any) {
	var w io.Writer = a.stderr
	if m := a.meter.Load(); m != nil {
		w = m
	}
	fmt.Fprintf(w, format, args...)
}
