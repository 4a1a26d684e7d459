package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"lockstep/cluster"
	"lockstep/compile"
	"lockstep/web"
)

func (a *app) serveCommand() *cobra.Command {
	var listen string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Keep what a cluster serves: views in the Thrift Server, health and metrics",
		Long: "Serve keeps a view of every table in the catalog of the Spark Thrift Server, merged of what the last batch\n" +
			"published and what the stream changed since, so that any client of it reads silver.x as it is served. It\n" +
			"makes them again when the Thrift Server was started again, and answers /metrics, /healthz and /readyz.",
		Example: "  lockstep serve --env cluster",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.serve(c.Context(), listen) },
	}
	c.Flags().StringVar(&listen, "listen", "", "address of the web page (default 127.0.0.1:8080, or the next free port)")
	return c
}

// serveAddress is the default of --listen.
const serveAddress = "127.0.0.1:8080"

func (a *app) serve(ctx context.Context, listen string) (err error) {
	if !a.onCluster() {
		return usagef("serve needs --env with real engines: in the environment embedded `lockstep run` does it")
	}
	if listen != "" {
		if err := web.CheckListen(listen, os.Getenv(web.PasswordVariable)); err != nil {
			return err
		}
	}
	b, err := a.openCluster(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	s := cluster.NewServing(b, a.layerStatus)
	stop, err := a.answer(s, filepath.Join(a.stateDir(), "serve"), listener{asked: listen, standard: serveAddress, what: "web"},
		web.Options{Lineage: compile.Graph(s.Program()), Program: s.Program()})
	if err != nil {
		return err
	}
	defer stop()
	return s.Run(ctx)
}

// listener is where a layer of a cluster answers people.
type listener struct {
	asked, standard string // the address that was asked for; else the one to begin at
	what            string // what is there
}

// answer lets people and other commands ask a layer of a cluster.
func (a *app) answer(b web.Backend, dir string, at listener, o web.Options) (stop func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the folder of the layer: %w", err)
	}
	tcp, _, err := web.ListenTCP("listen", at.asked, at.standard)
	if err != nil {
		return nil, err
	}
	socket, err := web.ListenSocket(dir)
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	o.Version, o.Password, o.Log = version, os.Getenv(web.PasswordVariable), a.log
	server := web.NewServer(a.log)
	server.ServePeople(tcp, b, o)
	server.ServeCommands(socket, b)
	a.say("%-9s http://%s\n", at.what, tcp.Addr())
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := server.Close(ctx); err != nil {
			a.log.Debug("cannot end the answers of the layer", "error", err)
		}
	}, nil
}

// layerStatus is the status of the speed layer that runs on this state folder;
// nil: none does.
func (a *app) layerStatus(ctx context.Context) *web.Status {
	client, err := web.Dial(ctx, filepath.Join(a.stateDir(), "speed"))
	if err != nil {
		return nil
	}
	defer client.Close()
	s, err := client.Status(ctx)
	if err != nil {
		return nil
	}
	return s
}
