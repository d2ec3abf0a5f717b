package pgtidehttp

import (
	"container/list"
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/pgtide/pgtide"
)

// Store keeps tokens on the server, by the id of a user or a session, for
// clients that keep none: webhooks, or a user's second device. Its methods are
// called by many goroutines at once.
type Store interface {
	// Load returns the token of key, or the zero Token when there is none.
	Load(ctx context.Context, key string) (pgtide.Token, error)
	// Raise merges t into the token of key, and keeps it for ttl from now on. Of
	// two calls at once neither may undo the other: tokens only grow, as
	// [pgtide.Token.Merge] has it. A token of another cluster than the one kept,
	// by [pgtide.Token.SystemID], takes its place.
	Raise(ctx context.Context, key string, t pgtide.Token, ttl time.Duration) error
}

// load adds what the store has for r's client to out. When the store fails, the
// primary's position as of now takes its place: it covers whatever the client
// has written, and costs a query there.
func (m *Middleware) load(ctx context.Context, out *response, r *http.Request) {
	out.key = m.storeKey(r)
	if out.key == "" {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, m.storeTimeout)
	t, err := m.store.Load(bounded, out.key)
	cancel()
	if err != nil {
		m.storeFailed(ctx, err)
		t, err = m.db.CurrentToken(pgtide.WithNote(pgtide.AllowWrites(ctx), "the token store failed"))
	}
	if err != nil {
		out.ctx.scope.pinned = true
		return
	}
	if t.SystemID() == m.db.SystemID() {
		out.carried = out.carried.Merge(t)
	}
}

// raise keeps t for the request's client. The client's own copy is sent whatever
// comes of it.
func (w *response) raise(t pgtide.Token) {
	if w.key == "" {
		return
	}
	// The client may be gone, and what it has written is there all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(&w.ctx), w.m.storeTimeout)
	defer cancel()
	if err := w.m.store.Raise(ctx, w.key, t, w.m.lifetime); err != nil {
		w.m.storeFailed(&w.ctx, err)
	}
}

func (m *Middleware) storeFailed(ctx context.Context, err error) {
	m.stat.storeErrors.Add(1)
	if m.onStoreError != nil {
		m.onStoreError(ctx, err)
	}
}

// DefaultMaxKeys is how many keys a [MemoryStore] keeps unless it is told.
const DefaultMaxKeys = 100_000

// MemoryStore is a [Store] of one process: for programs of which one instance
// runs, or whose clients always come to the same. The zero value is ready.
type MemoryStore struct {
	// MaxKeys bounds how many keys are kept. One more pushes out the one raised
	// longest ago, whose client may then read what is older than its last write.
	// Defaults to [DefaultMaxKeys]. It must not be changed once the store is used.
	MaxKeys int

	mu   sync.Mutex
	keys map[string]*list.Element
	// byAge holds the entries, the one raised longest ago first. All are kept for
	// about as long, so those that are over are in front.
	byAge list.List
}

var _ Store = (*MemoryStore)(nil)

type stored struct {
	key   string
	token pgtide.Token
	until time.Time
}

// Load implements [Store].
func (s *MemoryStore) Load(_ context.Context, key string) (pgtide.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.keys[key]; e != nil {
		if entry := e.Value.(*stored); time.Now().Before(entry.until) {
			return entry.token, nil
		}
		s.remove(e)
	}
	return pgtide.Token{}, nil
}

// Raise implements [Store].
func (s *MemoryStore) Raise(_ context.Context, key string, t pgtide.Token, ttl time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for e := s.byAge.Front(); e != nil && !now.Before(e.Value.(*stored).until); e = s.byAge.Front() {
		s.remove(e)
	}
	until := now.Add(ttl)
	if e := s.keys[key]; e != nil {
		entry := e.Value.(*stored)
		if entry.token.SystemID() == t.SystemID() {
			t = entry.token.Merge(t)
		}
		entry.token = t
		if until.After(entry.until) {
			entry.until = until
		}
		s.byAge.MoveToBack(e)
		return nil
	}
	limit := s.MaxKeys
	if limit <= 0 {
		limit = DefaultMaxKeys
	}
	for len(s.keys) >= limit {
		s.remove(s.byAge.Front())
	}
	if s.keys == nil {
		s.keys = map[string]*list.Element{}
	}
	s.keys[key] = s.byAge.PushBack(&stored{key: key, token: t, until: until})
	return nil
}

func (s *MemoryStore) remove(e *list.Element) {
	delete(s.keys, s.byAge.Remove(e).(*stored).key)
}
