package pgtideriver

import (
	"context"
	"errors"
	"fmt"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/pgtide/pgtide"
)

// Middleware is for [river.Config.Middleware]. Get one from [New]. It is safe for
// concurrent use, by any number of clients.
type Middleware struct {
	river.MiddlewareDefaults
	db *pgtide.DB
	o  Options
}

var (
	_ rivertype.JobInsertMiddleware = (*Middleware)(nil)
	_ rivertype.WorkerMiddleware    = (*Middleware)(nil)
)

// New returns a Middleware for jobs whose reads go through db. It panics when db
// is nil or o cannot be used: both are fixed when the program is written.
func New(db *pgtide.DB, o Options) *Middleware {
	if db == nil {
		panic("pgtideriver: db is nil: open one with pgtide.Open")
	}
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		panic("pgtideriver: " + err.Error())
	}
	return &Middleware{db: db, o: o}
}

type committedKey struct{}

// Committed returns a context for adding jobs that need to see no more than the
// session of ctx must see by now: what it has written, and that is committed. It
// is wrong for jobs that are added in a transaction together with what they are
// about (Client.InsertTx), as the position of its commit is not known yet. From
// its second attempt on a job sees all that is committed in any case, what the
// first attempt wrote included.
//
// It changes nothing when the session has no token, and for unique jobs: the one
// that is there already may have been added by somebody who had written less.
func Committed(ctx context.Context) context.Context {
	// Not asked for when the job is added: River has begun a transaction by then,
	// which may be in the session as a write whose position is not known.
	t, _ := pgtide.TokenFrom(ctx)
	return context.WithValue(ctx, committedKey{}, t)
}

// InsertMany implements [rivertype.JobInsertMiddleware].
func (m *Middleware) InsertMany(ctx context.Context, jobs []*rivertype.JobInsertParams, doInner func(context.Context) ([]*rivertype.JobInsertResult, error)) ([]*rivertype.JobInsertResult, error) {
	t, _ := ctx.Value(committedKey{}).(pgtide.Token)
	for _, job := range jobs {
		c := carried{Token: t}
		if len(job.UniqueKey) > 0 {
			c = carried{}
		}
		job.Metadata = write(job.Metadata, c)
	}
	return doInner(ctx)
}

// Work implements [rivertype.WorkerMiddleware]. It returns an error if the
// primary cannot be asked: the job is then tried again as River does after any.
func (m *Middleware) Work(ctx context.Context, job *rivertype.JobRow, doInner func(context.Context) error) error {
	ctx = pgtide.NewSession(ctx)
	c := read(job, m.db.SystemID())
	if c.Token.IsZero() {
		var err error
		if c.Token, err = m.db.CurrentToken(ctx); err != nil {
			return fmt.Errorf("ask the primary what job %d must see: %w", job.ID, err)
		}
	}
	ctx = pgtide.WithToken(ctx, c.Token)
	if m.o.OnBehind != Primary && !m.reached(ctx, c.Token) && m.snooze(ctx, job, c) {
		return river.JobSnooze(m.o.SnoozeFor)
	}
	return doInner(ctx)
}

// snooze reports whether the job is to be worked later, having noted for then
// what it must see.
func (m *Middleware) snooze(ctx context.Context, job *rivertype.JobRow, c carried) bool {
	if m.o.OnBehind != Snooze || c.Snoozes >= int64(m.o.MaxSnoozes) {
		return false
	}
	c.Snoozes++
	c.Fetched = len(job.AttemptedBy)
	// A replica that is always a little behind would never have what is committed
	// by then, and need not. Only a unique job may be meant by somebody who comes
	// meanwhile.
	if len(job.UniqueKey) > 0 {
		c.Token = pgtide.Token{}
	}
	// An error says that nothing is noted: the job would be snoozed for ever.
	return river.MetadataSet(ctx, MetadataKey, c) == nil
}

// reached waits until a replica has what t stands for, and reports false when
// none has within the budget. Where there is no replica to wait for, or no use in
// it, it reports true.
func (m *Middleware) reached(ctx context.Context, t pgtide.Token) bool {
	var replicas []string
	for _, n := range m.db.Nodes() {
		if n.Role == pgtide.RoleReplica && n.State == "up" {
			replicas = append(replicas, n.Name)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, max(m.o.WaitBudget, 0))
	defer cancel()
	errs := make(chan error, len(replicas))
	for _, name := range replicas {
		go func() { errs <- m.db.WaitFor(ctx, t, name) }()
	}
	for range replicas {
		// A write that is lost comes to no replica: the session tells the worker.
		if err := <-errs; err == nil || errors.Is(err, pgtide.ErrWriteLost) {
			return true
		}
	}
	return len(replicas) == 0
}
