package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

	"lockstep/engine/spark"
	"lockstep/web"
)

// Serving keeps the Thrift Server's views, and a status that is ready when it
// is asked for.
type Serving struct {
	*Backend
	// layer gives the status of the speed layer; nil, or nil from it: it is not
	// known here.
	layer func(context.Context) *web.Status

	server  spark.Server   // asked again by this loop: it need not wait
	session *spark.Session // lost when the Thrift Server ends

	mu     sync.Mutex
	status *web.Status
	views  error // why the views may not be there
}

var errNotYet = errors.New("the views of the Thrift Server are not made yet")

// NewServing makes a Serving; Run does the work. layer gives the status of the
// speed layer, nil where it is not known.
func NewServing(b *Backend, layer func(context.Context) *web.Status) *Serving {
	server := b.server
	server.Wait = 0
	b.countEvery = countEvery
	return &Serving{Backend: b, layer: layer, server: server, views: errNotYet}
}

// How often the keeper looks. Rows are dear: Spark counts them.
const (
	viewsEvery  = 2 * time.Second
	statusEvery = 5 * time.Second
	countEvery  = time.Minute
)

// Run keeps the views until ctx ends.
func (s *Serving) Run(ctx context.Context) error {
	defer func() {
		if s.session != nil {
			s.session.Close()
		}
	}()
	var statusAt time.Time
	for {
		s.keep(ctx)
		if time.Since(statusAt) > statusEvery {
			s.refresh(ctx)
			statusAt = time.Now()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(viewsEvery):
		}
	}
}

func (s *Serving) keep(ctx context.Context) {
	made, err := s.look(ctx)
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	before := s.views
	s.views = err
	s.mu.Unlock()
	switch {
	case err != nil && (before == nil || before.Error() != err.Error()):
		s.log.Warn("the views of the Thrift Server cannot be kept", "error", err)
	case made:
		s.log.Info("made the views of the Thrift Server")
	}
}

// look keeps the views over a session that lasts as long as the Thrift Server.
func (s *Serving) look(ctx context.Context) (made bool, err error) {
	if s.session == nil {
		if s.session, err = s.server.Open(ctx, nil); err != nil {
			return false, err
		}
	}
	made, err = s.keepViews(ctx, s.session)
	if err != nil { // lost, or forgotten by the server
		s.session.Close()
		s.session = nil
	}
	return made, err
}

func (s *Serving) refresh(ctx context.Context) {
	status, err := s.Backend.Status(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.log.Warn("cannot read the status", "error", err)
		}
		return
	}
	if s.layer != nil {
		if layer := s.layer(ctx); layer != nil {
			WithLayer(status, layer)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

// Status implements web.Backend: the one of a few seconds ago.
func (s *Serving) Status(ctx context.Context) (*web.Status, error) {
	s.mu.Lock()
	status, views := s.status, s.views
	s.mu.Unlock()
	if status == nil {
		return &web.Status{Project: s.program.Project.Name, State: s.config.Warehouse, Started: s.started, NotReady: []string{"the cluster was not asked yet"}}, nil
	}
	out := *status
	if views != nil {
		out.Ready = false
		out.NotReady = append(append([]string{}, out.NotReady...), views.Error())
	}
	return &out, nil
}

// WithLayer puts what only the running speed layer knows into a status: rates,
// lag, times, and what stopped.
func WithLayer(s, layer *web.Status) {
	s.Freshness, s.FromBronze = layer.Freshness, layer.FromBronze
	s.Commits, s.CommitSeconds = layer.Commits, layer.CommitSeconds
	s.NotReady = append(s.NotReady, layer.NotReady...)
	s.Ready = s.Ready && layer.Ready
	s.Problems = append(s.Problems, layer.Problems...)
	topics := map[string]web.TopicStatus{}
	for _, t := range layer.Topics {
		topics[t.Topic] = t
	}
	for i := range s.Topics {
		t := &s.Topics[i]
		if l, ok := topics[t.Topic]; ok {
			t.Rate, t.Stopped, t.DeadTotal, t.Bytes, t.LagSeconds = l.Rate, l.Stopped, l.DeadTotal, l.Bytes, l.LagSeconds
		}
	}
	models := map[string]web.ModelStatus{}
	for _, m := range layer.Models {
		models[m.Model] = m
	}
	for i := range s.Models {
		m := &s.Models[i]
		if l, ok := models[m.Model]; ok {
			m.StepSeconds, m.StepTotal, m.RowsIn, m.RowsOut = l.StepSeconds, l.StepTotal, l.RowsIn, l.RowsOut
		}
	}
}
