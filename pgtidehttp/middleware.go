package pgtidehttp

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
)

// database is what a Middleware asks of a [pgtide.DB].
type database interface {
	SystemID() uint64
	HasGroup(name string) bool
	Settled(pgtide.Token) bool
	Writable() bool
	CurrentToken(context.Context) (pgtide.Token, error)
	BeginTx(context.Context, pgx.TxOptions) (pgx.Tx, error)
}

// Middleware makes a session of each request. Get one from [New]. It is safe
// for concurrent use, and one can wrap any number of handlers.
type Middleware struct {
	db       database
	keys     *pgtide.Keys
	header   string
	cookie   http.Cookie // without a token
	lifetime time.Duration
	pinFor   time.Duration

	store        Store // nil is none
	storeKey     func(*http.Request) string
	storeTimeout time.Duration

	readMethods       []string
	writersOnPrimary  bool
	routes            *table // nil is none
	routeName         func(*http.Request) string
	trust             func(*http.Request) bool
	consistencyHeader string
	writeInRead       pgtide.Guard
	transactions      bool

	onCommitError func(*http.Request, error)
	onBadToken    func(*http.Request, error)
	onStoreError  func(context.Context, error)
	stat          counters
}

// New returns a Middleware that carries tokens of db's cluster. It panics when
// db is nil or o cannot be used, as [http.ServeMux.Handle] does for a bad
// pattern: both are fixed when the program is written.
func New(db *pgtide.DB, o Options) *Middleware {
	if db == nil {
		panic("pgtidehttp: db is nil: open one with pgtide.Open")
	}
	return newMiddleware(db, o)
}

func newMiddleware(db database, o Options) *Middleware {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		panic("pgtidehttp: " + err.Error())
	}
	var routes *table
	if len(o.Routes) > 0 {
		var err error
		if routes, err = newTable(o.Routes, db.HasGroup); err != nil {
			panic("pgtidehttp: options: " + err.Error())
		}
	}
	return &Middleware{
		db:                db,
		keys:              o.Keys,
		header:            o.Header,
		cookie:            o.cookie(),
		lifetime:          o.Lifetime,
		pinFor:            o.PinFor,
		store:             o.Store,
		storeKey:          o.StoreKey,
		storeTimeout:      o.StoreTimeout,
		readMethods:       slices.Clone(o.ReadMethods),
		writersOnPrimary:  o.WritersOnPrimary,
		routes:            routes,
		routeName:         o.RouteName,
		trust:             o.Trust,
		consistencyHeader: o.ConsistencyHeader,
		writeInRead:       o.WriteInRead,
		transactions:      o.Transactions,
		onCommitError:     o.OnCommitError,
		onBadToken:        o.OnBadToken,
		onStoreError:      o.OnStoreError,
	}
}

// Wrap returns a handler that serves each request with next in a session of
// its own; m.Wrap fits routers that take middleware as a function. Where the
// request's context has a session already, as below another Wrap, that one
// goes on.
func (m *Middleware) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := &response{out: w, m: m, request: r, before: len(w.Header()["Set-Cookie"])}
		m.begin(out, r)
		returned := false
		// Also when next panics: a handler further out may answer in its place,
		// and what was written is written.
		defer func() { out.finish(returned) }()
		next.ServeHTTP(out, r.WithContext(&out.ctx))
		returned = true
	})
}

// begin makes the context that r is served in.
func (m *Middleware) begin(out *response, r *http.Request) {
	ctx := r.Context()
	outer := scopeOf(ctx)
	if out.tx = &out.own; outer.w != nil && outer.w.m.db == m.db {
		out.tx = outer.w.tx
	}
	if !pgtide.HasSession(ctx) {
		ctx = pgtide.NewSession(ctx)
	}
	s := &out.ctx.scope
	*s = *outer
	s.w, s.method = out, slices.Contains(m.readMethods, r.Method)
	if !s.wrapped {
		s.reads = s.method
	}
	m.receive(out, r)
	if m.store != nil {
		m.load(ctx, out, r)
	}
	if s.pinned && !s.eventual {
		ctx = pgtide.WithConsistency(ctx, pgtide.Strong)
	}
	ctx = m.decide(ctx, s, r)
	if s.reads && m.writeInRead != pgtide.GuardOff {
		ctx = pgtide.ReadOnly(ctx, m.writeInRead)
	}
	if !out.carried.IsZero() {
		ctx = pgtide.WithToken(ctx, out.carried)
	}
	out.ctx.Context = ctx
}

// decide returns ctx with what header, route or method say, unless a wrapper
// further out has decided.
func (m *Middleware) decide(ctx context.Context, s *scope, r *http.Request) context.Context {
	if s.by == byWrapper {
		return ctx
	}
	if c, text, ok := m.ordered(r); ok {
		return s.apply(ctx, c, byHeader, "header "+m.consistencyHeader+": "+text)
	}
	if m.routes != nil {
		name := ""
		if len(m.routes.names) > 0 { // there is a RouteName then
			name = m.routeName(r)
		}
		if found := m.routes.match(r, name); found != nil {
			return s.apply(ctx, found.choice, byRoute, found.note)
		}
	}
	if m.writersOnPrimary && !s.method {
		return s.apply(ctx, choice{target: toPrimary}, byMethod, "method that may write")
	}
	return ctx
}

// ordered returns what a trusted request itself asks for.
func (m *Middleware) ordered(r *http.Request) (c choice, text string, ok bool) {
	if m.trust == nil || len(r.Header[m.consistencyHeader]) == 0 || !m.trust(r) {
		return choice{}, "", false
	}
	text = strings.TrimSpace(r.Header[m.consistencyHeader][0])
	c, err := parseChoice(text)
	if err == nil {
		err = c.known(m.db.HasGroup)
	}
	if err != nil {
		m.stat.misread.Add(1)
		return choice{}, "", false
	}
	return c, text, true
}
