package pgtidehttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgtide/pgtide"
)

func userOf(r *http.Request) string { return r.Header.Get("User") }

func as(user string) *http.Request {
	r := get()
	r.Header.Set("User", user)
	return r
}

func asks(m *Middleware, r *http.Request) (token pgtide.Token) {
	serve(m, r, func(_ http.ResponseWriter, r *http.Request) { token, _ = pgtide.TokenFrom(r.Context()) })
	return token
}

func TestStore(t *testing.T) {
	m := newTest(t, Options{Store: &MemoryStore{}, StoreKey: userOf})
	serve(m, as("ann"), writing(newToken(t, home, 100)))
	serve(m, as(""), writing(newToken(t, home, 200)))
	if got := asks(m, as("ann")); !got.Equal(newToken(t, home, 100)) {
		t.Errorf("the user's next request asks for %v, want what the first wrote", got)
	}
	for _, user := range []string{"bob", ""} {
		if got := asks(m, as(user)); !got.IsZero() {
			t.Errorf("a request of user %q asks for %v, want nothing", user, got)
		}
	}
	// The client has nothing, and needs nothing.
	if res := serve(m, as("ann"), reading); len(res.Header) != 0 {
		t.Errorf("a read is sent %v, want nothing", res.Header)
	}
}

// brokenStore hangs until it is told to stop, as a server that is gone does.
type brokenStore struct{}

func (brokenStore) Load(ctx context.Context, _ string) (pgtide.Token, error) {
	<-ctx.Done()
	return pgtide.Token{}, ctx.Err()
}

func (brokenStore) Raise(ctx context.Context, _ string, _ pgtide.Token, _ time.Duration) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestStoreFails(t *testing.T) {
	var told []error
	m := newTest(t, Options{Store: brokenStore{}, StoreKey: userOf, StoreTimeout: time.Millisecond, OnStoreError: func(_ context.Context, err error) { told = append(told, err) }})
	db := m.db.(*fakeDB)
	db.current = func() (pgtide.Token, error) { return newToken(t, home, 500), nil }
	if got := asks(m, as("ann")); !got.Equal(newToken(t, home, 500)) {
		t.Errorf("without the store a request asks for %v, want where the primary is", got)
	}
	db.current = func() (pgtide.Token, error) { return pgtide.Token{}, pgtide.ErrNoPrimary }
	serve(m, as("ann"), func(_ http.ResponseWriter, r *http.Request) {
		if !scopeOf(r.Context()).pinned {
			t.Error("with neither store nor primary to ask, reads do not wait for a primary")
		}
	})
	res := serve(m, as("ann"), writing(newToken(t, home, 600)))
	if got, ok := sent(t, m, res.Header); res.StatusCode != 200 || !ok || !got.Equal(newToken(t, home, 600)) {
		t.Errorf("a write is answered %d and carries %v, want 200 and its token", res.StatusCode, got)
	}
	if got := m.Stat().StoreErrors; got != 4 || len(told) != 4 || !errors.Is(told[0], context.DeadlineExceeded) {
		t.Errorf("%d errors are counted and %d told (%v), want 4: three loads and a raise", got, len(told), told)
	}
	if got := m.Stat().Pinned; got != 0 {
		t.Errorf("%d requests are counted pinned, want none", got)
	}
}

// attentiveStore does nothing for a context that has ended.
type attentiveStore struct{ MemoryStore }

func (s *attentiveStore) Raise(ctx context.Context, key string, t pgtide.Token, ttl time.Duration) error {
	return errors.Join(ctx.Err(), s.MemoryStore.Raise(context.WithoutCancel(ctx), key, t, ttl))
}

// A request whose client is gone has written all the same.
func TestStoreOutlivesClient(t *testing.T) {
	store := &attentiveStore{}
	m := newTest(t, Options{Store: store, StoreKey: userOf})
	ctx, cancel := context.WithCancel(t.Context())
	serve(m, as("ann").WithContext(ctx), func(_ http.ResponseWriter, r *http.Request) {
		write(r.Context(), newToken(t, home, 100))
		cancel()
	})
	if got, err := store.Load(t.Context(), "ann"); err != nil || !got.Equal(newToken(t, home, 100)) {
		t.Errorf("the store has %v (%v), want what was written", got, err)
	}
	if n := m.Stat().StoreErrors; n != 0 {
		t.Errorf("%d errors are counted, want none", n)
	}
}

func TestMemoryStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &MemoryStore{MaxKeys: 3}
		raise := func(key string, lsn uint64, ttl time.Duration) {
			if err := s.Raise(t.Context(), key, newToken(t, home, lsn), ttl); err != nil {
				t.Fatalf("raise: %v", err)
			}
		}
		expect := func(key string, lsn uint64) {
			t.Helper()
			var want pgtide.Token
			if lsn != 0 {
				want = newToken(t, home, lsn)
			}
			if got, err := s.Load(t.Context(), key); err != nil || !got.Equal(want) {
				t.Errorf("key %q has %v (%v), want %v", key, got, err, want)
			}
		}
		expect("a", 0)
		raise("a", 200, time.Minute)
		raise("a", 100, time.Minute) // tokens only grow
		expect("a", 200)
		time.Sleep(30 * time.Second)
		raise("a", 100, time.Minute) // and live on
		time.Sleep(59 * time.Second)
		expect("a", 200)
		time.Sleep(time.Second)
		expect("a", 0)

		raise("a", 200, time.Minute)
		if err := s.Raise(t.Context(), "a", newToken(t, abroad, 5), time.Minute); err != nil {
			t.Fatalf("raise: %v", err)
		}
		if got, _ := s.Load(t.Context(), "a"); !got.Equal(newToken(t, abroad, 5)) {
			t.Errorf("key a has %v, want the token of the other cluster: the first is gone", got)
		}

		for i, key := range []string{"a", "b", "c", "a", "d"} {
			raise(key, uint64(i+1), time.Minute)
		}
		expect("b", 0) // raised longest ago
		expect("a", 4)
		expect("d", 5)
		time.Sleep(time.Minute)
		raise("e", 1, time.Minute)
		if len(s.keys) != 1 || s.byAge.Len() != 1 {
			t.Errorf("%d keys and %d entries are left, want one: the others are over", len(s.keys), s.byAge.Len())
		}
	})
}

func TestMemoryStoreAtOnce(t *testing.T) {
	s := &MemoryStore{}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 100 {
				_ = s.Raise(t.Context(), fmt.Sprint(n%5), newToken(t, home, uint64(1+8*n+i)), time.Minute)
				_, _ = s.Load(t.Context(), fmt.Sprint(n%5))
			}
		})
	}
	wg.Wait()
	for n := 95; n < 100; n++ {
		if got, _ := s.Load(t.Context(), fmt.Sprint(n%5)); !got.Equal(newToken(t, home, uint64(8*n+8))) {
			t.Errorf("key %d has %v, want the greatest of all", n%5, got)
		}
	}
}
