package web

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"lockstep/compile"
	"lockstep/dashboard"
)

// PasswordVariable is the environment variable with the password that is asked
// for when the page is reachable from other machines.
const PasswordVariable = "LOCKSTEP_PASSWORD"

// Options of the server for people.
type Options struct {
	Version  string           // of the binary
	Lineage  *compile.Lineage // what the page draws; nil: nothing
	Password string           // of user "lockstep"; empty: nobody is asked
	Program  *compile.Program // what the Pipeline page explains; nil: there is none
	// Dashboards of the project; nil: there is no page for them.
	Dashboards *dashboard.Set
	Log        *slog.Logger
}

// Server answers over TCP and over the state's socket.
type Server struct {
	http []*http.Server
	log  *slog.Logger
}

// NewServer makes a server of a state. Nothing listens yet.
func NewServer(log *slog.Logger) *Server {
	if log == nil {
		log = slog.Default()
	}
	return &Server{log: log}
}

// ServePeople answers people on a listener made by ListenTCP: page, health,
// metrics and the part of the API that only reads. It returns at once.
func (s *Server) ServePeople(l net.Listener, b Backend, o Options) {
	s.serve(l, Handler(b, o))
}

// ServeCommands answers other commands on a listener made by ListenSocket. It
// returns at once.
func (s *Server) ServeCommands(l net.Listener, b Backend) {
	mux := http.NewServeMux()
	fullAPI(mux, b)
	s.serve(l, mux)
}

// closingKey is where a request's context holds the channel that closes with
// the server.
type closingKey struct{}

func (s *Server) serve(l net.Listener, h http.Handler) {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	// Answers that never end are told when the server closes.
	closing := make(chan struct{})
	srv.RegisterOnShutdown(sync.OnceFunc(func() { close(closing) }))
	srv.BaseContext = func(net.Listener) context.Context {
		return context.WithValue(context.Background(), closingKey{}, closing)
	}
	s.http = append(s.http, srv)
	go func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("cannot answer any more", "address", l.Addr().String(), "error", err)
		}
	}()
}

// Close stops to listen and gives requests until ctx ends.
func (s *Server) Close(ctx context.Context) error {
	var errs []error
	for _, srv := range s.http {
		if err := srv.Shutdown(ctx); err != nil {
			errs = append(errs, srv.Close())
		}
	}
	return errors.Join(errs...)
}

// CheckListen refuses an address of the flag --listen that other machines can
// reach, unless there is a password to ask them for.
func CheckListen(addr, password string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return &Error{What: fmt.Sprintf("cannot use --listen %q: %v", addr, err), Do: "write HOST:PORT, such as 127.0.0.1:8080"}
	}
	if isLoopback(host) || password != "" {
		return nil
	}
	return &Error{What: fmt.Sprintf("cannot use --listen %s: other machines could read the data without a password", addr),
		Do: "set the environment variable " + PasswordVariable + " (the user is lockstep), or listen on 127.0.0.1"}
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// Handler answers people: the page, /healthz, /readyz, /metrics and /api.
func Handler(b Backend, o Options) http.Handler {
	mux := http.NewServeMux()
	readAPI(mux, b)
	mux.HandleFunc("POST /api/query", func(w http.ResponseWriter, r *http.Request) { queryJSON(w, r, b) })
	mux.HandleFunc("GET /api/graph", func(w http.ResponseWriter, r *http.Request) { writeJSON(w, http.StatusOK, o.Lineage) })
	mux.Handle("GET /metrics", metricsHandler(b, o))
	pageRoutes(mux, b, o)
	dashRoutes(mux, b, o.Dashboards)
	pipelineRoutes(mux, b, o)
	guarded := http.NewServeMux()
	guarded.HandleFunc("GET /healthz", healthz)
	guarded.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { readyz(w, r, b) })
	guarded.Handle("/", password(o.Password, mux))
	return headers(o.Password == "", guarded)
}

func healthz(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]bool{"alive": true})
}

type readiness struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons"`
}

func readyz(w http.ResponseWriter, r *http.Request, b Backend) {
	s, err := b.Status(r.Context())
	if err != nil {
		writeJSON(w, http.StatusServiceUnavailable, readiness{Reasons: []string{err.Error()}})
		return
	}
	answer, code := readiness{s.Ready, append([]string{}, s.NotReady...)}, http.StatusOK
	if !s.Ready {
		code = http.StatusServiceUnavailable
	}
	writeJSON(w, code, answer)
}

// headers sets what keeps other sites out. Where there is no password, the
// Host must be this machine: else a name that its owner lets point to 127.0.0.1
// (DNS rebinding) would make the page part of that owner's site.
func headers(localOnly bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if localOnly && !isLoopback(hostOf(r)) {
			writeError(w, http.StatusForbidden, &Error{What: fmt.Sprintf("cannot answer for host %q", r.Host), Do: "use 127.0.0.1 or localhost"})
			return
		}
		if site := r.Header.Get("Sec-Fetch-Site"); r.Method == http.MethodPost && site != "" && site != "same-origin" {
			writeError(w, http.StatusForbidden, errors.New("cannot answer a page of another site"))
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

func hostOf(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.Host); err == nil {
		return host
	}
	return strings.Trim(r.Host, "[]")
}

func password(want string, next http.Handler) http.Handler {
	if want == "" {
		return next
	}
	expect := sha256.Sum256([]byte(want))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, given, _ := r.BasicAuth()
		got := sha256.Sum256([]byte(given))
		if user != "lockstep" || subtle.ConstantTimeCompare(expect[:], got[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="lockstep", charset="UTF-8"`)
			writeError(w, http.StatusUnauthorized, &Error{What: "cannot answer without the password", Do: "log in as user lockstep with the password of " + PasswordVariable})
			return
		}
		next.ServeHTTP(w, r)
	})
}
