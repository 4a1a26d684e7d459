package spark

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/thrift/lib/go/thrift"
	"github.com/beltran/gohive"
	"github.com/beltran/gohive/hiveserver"
)

// Server says where a Spark Thrift Server is and how to log in.
type Server struct {
	Address  string // host:port
	Auth     string // NONE or LDAP (user and password by SASL), NOSASL
	User     string
	Password string
	TLS      *tls.Config // nil: none
	// Wait is how long Open tries while the server cannot be reached, as when
	// it is started again; 0: one try.
	Wait time.Duration
}

// ErrLost says that the connection to the Thrift Server broke: what the
// statement did is not known. A new session may find out.
var ErrLost = errors.New("the connection to the Spark Thrift Server is lost")

// SQLError is what Spark answers to a statement that fails.
type SQLError struct {
	Class   string // such as TABLE_OR_VIEW_NOT_FOUND; empty: Spark gave none
	Message string // without class names and stack
	Full    string // as Spark wrote it
}

func (e *SQLError) Error() string { return e.Message }

// Conflict says that a statement wrote nothing because another writer of the
// table was first, or that it is not known whether it did.
func Conflict(err error) bool {
	var answer *SQLError
	if !errors.As(err, &answer) {
		return false
	}
	for _, name := range []string{"CommitFailedException", "CommitStateUnknownException", "Found conflicting files", "Cannot commit"} {
		if strings.Contains(answer.Full, name) {
			return true
		}
	}
	return false
}

const (
	callTime = 3 * time.Minute // of one call; statements run between calls
	maxFrame = 1 << 30
	// fetchRows at a time: few enough for wide rows to stay below maxFrame.
	fetchRows = 20_000
)

// Session is one session of a Thrift Server: settings, temporary views and
// catalogs of names are its own. Statements of one session run one after the
// other; its methods may be called at the same time.
type Session struct {
	server Server

	mu     sync.Mutex // one call at a time
	socket thrift.TTransport
	client *hiveserver.TCLIServiceClient
	handle *hiveserver.TSessionHandle
}

// Settings are those in which every statement of ours runs, so that Spark's
// meaning of a model's text is the one that the compiler checked.
var Settings = map[string]string{
	"spark.sql.session.timeZone":               "UTC",
	"spark.sql.timestampType":                  "TIMESTAMP_NTZ",
	"spark.sql.ansi.enabled":                   "true",
	"spark.sql.sources.partitionOverwriteMode": "static",
	"spark.sql.variable.substitute":            "false",
	"spark.sql.catalog.lake.cache-enabled":     "false", // others commit to the tables too
}

// Open opens a session with Settings and, over them, those given.
func (s Server) Open(ctx context.Context, settings map[string]string) (*Session, error) {
	deadline := time.Now().Add(s.Wait)
	for {
		session, err := s.open(ctx, settings)
		if err == nil {
			return session, nil
		}
		if !errors.Is(err, ErrLost) || time.Now().After(deadline) {
			return nil, fmt.Errorf("cannot open a session of the Spark Thrift Server at %s: %w", s.Address, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("cannot open a session of the Spark Thrift Server at %s: %w", s.Address, errors.Join(ctx.Err(), err))
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (s Server) open(ctx context.Context, settings map[string]string) (*Session, error) {
	d := net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", s.Address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLost, err)
	}
	conf := &thrift.TConfiguration{SocketTimeout: callTime, MaxMessageSize: maxFrame, MaxFrameSize: maxFrame}
	var socket thrift.TTransport = thrift.NewTSocketFromConnConf(conn, conf)
	if s.TLS != nil {
		own := s.TLS.Clone()
		if host, _, err := net.SplitHostPort(s.Address); err == nil && own.ServerName == "" {
			own.ServerName = host
		}
		socket = thrift.NewTSSLSocketFromConnConf(tls.Client(conn, own), conf)
	}
	session := &Session{server: s}
	if session.socket, err = s.transport(socket, conf); err == nil {
		err = session.begin(ctx, settings)
	}
	if err != nil {
		conn.Close()
		return nil, lost(err)
	}
	return session, nil
}

// transport logs in.
func (s Server) transport(socket thrift.TTransport, conf *thrift.TConfiguration) (thrift.TTransport, error) {
	if s.Auth == "NOSASL" {
		return thrift.NewTBufferedTransport(socket, 1<<16), nil
	}
	login := map[string]string{"username": cmp.Or(s.User, "lockstep"), "password": cmp.Or(s.Password, "x")} // SASL wants both
	host, _, _ := net.SplitHostPort(s.Address)
	t, err := gohive.NewTSaslTransport(socket, host, "PLAIN", login, maxFrame)
	if err != nil {
		return nil, err
	}
	return t, t.Open()
}

// begin opens the session with its settings: one call for all of them.
func (s *Session) begin(ctx context.Context, settings map[string]string) error {
	s.client = hiveserver.NewTCLIServiceClientFactory(s.socket, thrift.NewTBinaryProtocolFactoryConf(&thrift.TConfiguration{MaxMessageSize: maxFrame}))
	req := hiveserver.NewTOpenSessionReq()
	req.ClientProtocol = hiveserver.TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V8
	user, password := cmp.Or(s.server.User, "lockstep"), s.server.Password
	req.Username, req.Password, req.Configuration = &user, &password, map[string]string{}
	for _, set := range []map[string]string{Settings, settings} {
		for k, v := range set {
			req.Configuration["set:hiveconf:"+k] = v
		}
	}
	answer, err := s.client.OpenSession(ctx, req)
	if err == nil {
		err = status(answer.GetStatus())
	}
	if err != nil {
		return err
	}
	s.handle = answer.SessionHandle
	return nil
}

// Close ends the session.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req := hiveserver.NewTCloseSessionReq()
	req.SessionHandle = s.handle
	_, _ = s.client.CloseSession(ctx, req) // the server forgets sessions by itself too
	s.client = nil
	return s.socket.Close()
}

// call makes one call of the protocol. A connection that fails once is not
// used again: answers of it could be those of other calls.
func (s *Session) call(f func(c *hiveserver.TCLIServiceClient) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == nil {
		return ErrLost
	}
	err := lost(f(s.client))
	if errors.Is(err, ErrLost) {
		s.client = nil
		s.socket.Close()
	}
	return err
}

// lost tells a connection that failed from an answer that says no.
func lost(err error) error {
	var transport thrift.TTransportException
	var network net.Error
	var protocol thrift.TProtocolException
	switch {
	case err == nil, errors.Is(err, ErrLost):
		return err
	case errors.As(err, &transport), errors.As(err, &network), errors.As(err, &protocol), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET), errors.Is(err, net.ErrClosed):
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	return err
}

// Exec runs a statement and forgets its result.
func (s *Session) Exec(ctx context.Context, sql string) error {
	op, err := s.run(ctx, sql)
	if err != nil {
		return err
	}
	s.finish(op)
	return nil
}

// Query runs a statement and gives its result, typed as Spark types it:
// decimals with their precision, timestamps in microseconds. What has no type
// here (arrays, structs, binary) is text. Release the reader.
func (s *Session) Query(ctx context.Context, sql string) (array.RecordReader, error) {
	op, err := s.run(ctx, sql)
	if err != nil {
		return nil, err
	}
	schema, err := s.schema(ctx, op)
	if err != nil {
		s.finish(op)
		return nil, fmt.Errorf("cannot read the result of %q: %w", shorten(sql), err)
	}
	return newReader(ctx, s, op, schema), nil
}

// Each runs a query and hands over its record batches; they are valid during
// the call only.
func (s *Session) Each(ctx context.Context, sql string, f func(arrow.RecordBatch) error) error {
	r, err := s.Query(ctx, sql)
	if err != nil {
		return err
	}
	defer r.Release()
	for r.Next() {
		if err := f(r.RecordBatch()); err != nil {
			return err
		}
	}
	return r.Err()
}

// run runs a statement to its end. When ctx ends it is cancelled.
func (s *Session) run(ctx context.Context, sql string) (*hiveserver.TOperationHandle, error) {
	req := hiveserver.NewTExecuteStatementReq()
	req.SessionHandle, req.Statement, req.RunAsync = s.handle, sql, true
	var op *hiveserver.TOperationHandle
	err := s.call(func(c *hiveserver.TCLIServiceClient) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		answer, err := c.ExecuteStatement(context.WithoutCancel(ctx), req)
		if err != nil {
			return err
		}
		op = answer.OperationHandle
		return status(answer.GetStatus())
	})
	if err == nil {
		err = s.wait(ctx, op)
	}
	if err != nil {
		s.finish(op)
		return nil, fmt.Errorf("cannot run %q on Spark: %w", shorten(sql), err)
	}
	return op, nil
}

// wait asks until a statement has ended: soon at first, later twice a second.
func (s *Session) wait(ctx context.Context, op *hiveserver.TOperationHandle) error {
	for pause := 4 * time.Millisecond; ; pause = min(pause*3/2, 250*time.Millisecond) {
		req := hiveserver.NewTGetOperationStatusReq()
		req.OperationHandle = op
		done := false
		err := s.call(func(c *hiveserver.TCLIServiceClient) error {
			answer, err := c.GetOperationStatus(context.WithoutCancel(ctx), req)
			if err == nil {
				err = status(answer.GetStatus())
			}
			if err != nil {
				return err
			}
			done, err = ended(answer)
			return err
		})
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			s.cancel(op)
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

func ended(a *hiveserver.TGetOperationStatusResp) (bool, error) {
	if a.OperationState == nil {
		return false, nil
	}
	switch *a.OperationState {
	case hiveserver.TOperationState_INITIALIZED_STATE, hiveserver.TOperationState_PENDING_STATE, hiveserver.TOperationState_RUNNING_STATE:
		return false, nil
	case hiveserver.TOperationState_FINISHED_STATE:
		return true, nil
	}
	if a.ErrorMessage != nil {
		return true, sqlError(*a.ErrorMessage)
	}
	return true, fmt.Errorf("the statement ended as %s", a.OperationState)
}

func (s *Session) cancel(op *hiveserver.TOperationHandle) {
	req := hiveserver.NewTCancelOperationReq()
	req.OperationHandle = op
	_ = s.call(func(c *hiveserver.TCLIServiceClient) error {
		_, err := c.CancelOperation(context.Background(), req)
		return err
	})
}

// finish lets the server forget a statement and its result.
func (s *Session) finish(op *hiveserver.TOperationHandle) {
	if op == nil {
		return
	}
	req := hiveserver.NewTCloseOperationReq()
	req.OperationHandle = op
	_ = s.call(func(c *hiveserver.TCLIServiceClient) error {
		_, err := c.CloseOperation(context.Background(), req)
		return err
	})
}

func status(st *hiveserver.TStatus) error {
	if st == nil {
		return nil
	}
	switch st.StatusCode {
	case hiveserver.TStatusCode_SUCCESS_STATUS, hiveserver.TStatusCode_SUCCESS_WITH_INFO_STATUS, hiveserver.TStatusCode_STILL_EXECUTING_STATUS:
		return nil
	}
	if st.ErrorMessage != nil {
		return sqlError(*st.ErrorMessage)
	}
	return fmt.Errorf("the server answers %s", st.StatusCode)
}

var (
	errorClass = regexp.MustCompile(`\[([A-Z][A-Z0-9_]+(?:\.[A-Z0-9_]+)*)\]\s*`)
	className  = regexp.MustCompile(`^(?:[a-z_][\w$]*\.)+[A-Za-z_][\w$]*(?:Exception|Error|Throwable)?:\s*`)
	stackLine  = regexp.MustCompile(`\n\s+at [\w.$/<>]+\(`)
)

// sqlError takes Spark's answer apart: what a person needs stands between the
// exceptions' class names and the plan or the stack.
func sqlError(full string) error {
	text := full
	if at := stackLine.FindStringIndex(text); at != nil {
		text = text[:at[0]]
	}
	e := &SQLError{Full: full}
	if all := errorClass.FindAllStringSubmatchIndex(text, -1); len(all) > 0 {
		last := all[0]
		for _, m := range all[1:] { // the same class again, nearer to the message
			if text[m[2]:m[3]] == text[last[2]:last[3]] {
				last = m
			}
		}
		e.Class, text = text[last[2]:last[3]], text[last[1]:]
	}
	for prefix := ""; prefix != text; {
		prefix, text = text, className.ReplaceAllString(strings.TrimPrefix(strings.TrimSpace(text), "Error running query: "), "")
	}
	for _, rest := range []string{";\n'", "\n== SQL"} { // the plan; the statement, which the caller names
		if at := strings.Index(text, rest); at > 0 {
			text = text[:at]
		}
	}
	if lines := strings.SplitN(strings.TrimSpace(text), "\n", 13); len(lines) > 12 {
		text = strings.Join(lines[:12], "\n") + " ..."
	}
	if e.Message = strings.TrimSpace(text); e.Message == "" {
		e.Message = shorten(full)
	}
	if e.Class != "" {
		e.Message = "[" + e.Class + "] " + e.Message
	}
	return e
}

func shorten(sql string) string {
	sql = strings.Join(strings.Fields(sql), " ")
	if len(sql) > 160 {
		return sql[:157] + "..."
	}
	return sql
}
