package pgtideredis

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidehttp"
)

var _ pgtidehttp.Store = (*Store)(nil)

func TestMerge(t *testing.T) {
	s := startServer(t)
	a, b := s.store(t, Options{}), s.store(t, Options{})
	if got := load(t, a, "u"); !got.IsZero() {
		t.Errorf("an unknown key holds %v, want no token", got)
	}
	low, high := newToken(t, home, 100), newToken(t, home, 200)
	raise(t, a, "u", high, time.Minute)
	raise(t, b, "u", low, time.Minute)
	raise(t, b, "u", pgtide.Token{}, time.Minute)
	if got := load(t, b, "u"); !got.Equal(high) {
		t.Errorf("the key holds %v, want %v", got, high)
	}
	if got := load(t, b, "v"); !got.IsZero() {
		t.Errorf("another key holds %v, want no token", got)
	}
	if got := load(t, s.store(t, Options{Prefix: "other:"}), "u"); !got.IsZero() {
		t.Errorf("the key under another prefix holds %v, want no token", got)
	}
	if names := s.client(t).Keys(t.Context(), "*").Val(); len(names) != 1 || names[0] != "pgtide:7:u" {
		t.Errorf("the names in Redis are %q, want pgtide:7:u", names)
	}
	if bad := a.Stat().Bad + b.Stat().Bad; bad != 0 {
		t.Errorf("%d findings were bad, want none", bad)
	}
}

func TestConcurrentRaise(t *testing.T) {
	const raisers, raises = 16, 50
	for name, o := range map[string]Options{"plain": {}, "signed": {Keys: newKeys(t, secret)}} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t)
			var wg sync.WaitGroup
			for i := range raisers {
				store := s.store(t, o)
				wg.Go(func() {
					for n := range raises {
						lsn := uint64(1000 + n*raisers + i)
						if err := store.Raise(t.Context(), "u", newToken(t, home, lsn), time.Minute); err != nil {
							t.Error(err)
							return
						}
						// Once Raise has returned, nobody may find less.
						got, err := store.Load(t.Context(), "u")
						if err != nil || !got.Merge(newToken(t, home, lsn)).Equal(got) {
							t.Errorf("after a raise to %v the key holds %v, %v", newToken(t, home, lsn), got, err)
							return
						}
					}
				})
			}
			wg.Wait()
			want := newToken(t, home, 1000+raisers*raises-1)
			if got := load(t, s.store(t, o), "u"); !got.Equal(want) {
				t.Errorf("the key holds %v, want %v", got, want)
			}
			if n := s.client(t).SCard(t.Context(), "pgtide:7:u").Val(); n > crowd+raisers {
				t.Errorf("the key holds %d texts, want at most %d", n, crowd+raisers)
			}
		})
	}
}

func TestRoundTrips(t *testing.T) {
	s := startServer(t)
	client, count := s.client(t), &counter{}
	client.AddHook(count)
	store := s.store(t, Options{Client: client})
	raise(t, store, "u", newToken(t, home, 1), time.Minute) // the server learns the script
	count.trips = 0
	const raises = 160
	for n := range raises {
		raise(t, store, "u", newToken(t, home, uint64(100+n)), time.Minute)
	}
	if want := raises + raises/crowd; count.trips > want || count.trips < raises {
		t.Errorf("%d raises took %d round trips, want at most %d", raises, count.trips, want)
	}
	count.trips = 0
	load(t, store, "u")
	if count.trips != 1 {
		t.Errorf("a load took %d round trips, want 1", count.trips)
	}
}

func TestLifetime(t *testing.T) {
	s := startServer(t)
	store, client := s.store(t, Options{}), s.client(t)
	left := func() time.Duration { return client.PTTL(t.Context(), "pgtide:7:u").Val() }

	raise(t, store, "u", newToken(t, home, 100), time.Minute)
	if got := left(); got <= 50*time.Second || got > time.Minute+time.Millisecond {
		t.Errorf("the key lives for %v, want a minute", got)
	}
	raise(t, store, "u", newToken(t, home, 200), time.Second)
	if got := left(); got <= 50*time.Second {
		t.Errorf("a raise for a second leaves the key %v to live, want still a minute", got)
	}
	raise(t, store, "u", newToken(t, home, 50), time.Hour)
	if got := left(); got <= 59*time.Minute {
		t.Errorf("a raise for an hour leaves the key %v to live", got)
	}
	for n := range 2 * crowd { // what makes one token of many keeps the lifetime
		raise(t, store, "u", newToken(t, home, uint64(300+n)), time.Second)
	}
	if got := left(); got <= 59*time.Minute {
		t.Errorf("after many raises the key lives for %v, want an hour", got)
	}
	raise(t, store, "never", newToken(t, home, 1), 0)
	if got := load(t, store, "never"); !got.IsZero() {
		t.Errorf("a token raised for no time is %v", got)
	}

	raise(t, store, "short", newToken(t, home, 100), 20*time.Millisecond)
	// Nothing tells when a key has expired.
	for deadline := time.Now().Add(10 * time.Second); !load(t, store, "short").IsZero(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a token raised for 20 ms is there after 10 s")
		}
	}
}

func TestTwoClusters(t *testing.T) {
	s := startServer(t)
	client := s.client(t)
	at := func(id uint64) *Store {
		return newStore(func() uint64 { return id }, Options{Client: client, Timeout: 10 * time.Second})
	}
	here, there := newToken(t, home, 100), newToken(t, abroad, 900)
	raise(t, at(home), "u", there, time.Minute) // by whoever carries both
	raise(t, at(home), "u", here, time.Minute)
	for n := range 3 * crowd {
		raise(t, at(abroad), "u", newToken(t, abroad, uint64(n+1)), time.Minute)
	}
	if got := load(t, at(home), "u"); !got.Equal(here) {
		t.Errorf("the key holds %v of cluster %d, want %v", got, got.SystemID(), here)
	}
	if got := load(t, at(abroad), "u"); !got.Equal(there) {
		t.Errorf("the key holds %v of cluster %d, want %v", got, got.SystemID(), there)
	}
}

func TestGarbage(t *testing.T) {
	s := startServer(t)
	client, token := s.client(t), newToken(t, home, 100)
	const name = "pgtide:7:u"
	text, err := newToken(t, abroad, 900).MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	for what, put := range map[string]func(ctx context.Context) error{
		"a string": func(ctx context.Context) error { return client.Set(ctx, name, "hello", 0).Err() },
		"a hash":   func(ctx context.Context) error { return client.HSet(ctx, name, "a", "b").Err() },
		"a set": func(ctx context.Context) error {
			return client.SAdd(ctx, name, "", "x", strings.Repeat("A", 9999)).Err()
		},
		"a token of another cluster": func(ctx context.Context) error {
			return client.SAdd(ctx, name, text).Err()
		},
	} {
		t.Run(what, func(t *testing.T) {
			if err := client.FlushDB(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			if err := put(t.Context()); err != nil {
				t.Fatal(err)
			}
			store := s.store(t, Options{})
			if got := load(t, store, "u"); !got.IsZero() || store.Stat().Bad == 0 {
				t.Errorf("the key holds %v and %d findings were bad, want no token and some", got, store.Stat().Bad)
			}
			want := token
			for n := range 2 * crowd {
				want = newToken(t, home, uint64(200+n))
				raise(t, store, "u", want, time.Minute)
			}
			if got := load(t, store, "u"); !got.Equal(want) {
				t.Errorf("after raises the key holds %v, want %v", got, want)
			}
			if left := client.PTTL(t.Context(), name).Val(); left <= 0 {
				t.Errorf("after raises the key lives for %v, want a minute", left)
			}
		})
	}
}

func TestSigned(t *testing.T) {
	s := startServer(t)
	token := newToken(t, home, 100)
	raise(t, s.store(t, Options{}), "u", newToken(t, home, 1<<40), time.Minute) // forged, as far as the others know
	raise(t, s.store(t, Options{Keys: newKeys(t, secret)}), "u", token, time.Minute)
	for _, tt := range []struct {
		name string
		keys *pgtide.Keys
		want pgtide.Token
	}{
		{"the same key", newKeys(t, secret), token},
		{"a newer key in front", newKeys(t, newSecret, secret), token},
		{"another key", newKeys(t, newSecret), pgtide.Token{}},
	} {
		if got := load(t, s.store(t, Options{Keys: tt.keys}), "u"); !got.Equal(tt.want) {
			t.Errorf("%s: the key holds %v, want %v", tt.name, got, tt.want)
		}
	}
	// An instance that cannot read a token yet does not lose it for the others.
	other := s.store(t, Options{Keys: newKeys(t, newSecret)})
	for n := range 2 * crowd {
		raise(t, other, "u", newToken(t, home, uint64(1+n)), time.Minute)
	}
	if got := load(t, s.store(t, Options{Keys: newKeys(t, secret)}), "u"); !got.Equal(token) {
		t.Errorf("after raises with another key the key holds %v, want %v", got, token)
	}
	if err := s.store(t, Options{Keys: &pgtide.Keys{}}).Raise(t.Context(), "u", token, time.Minute); err == nil {
		t.Error("a raise with Keys that hold none returns no error")
	}
}

func TestRestart(t *testing.T) {
	s := startServer(t)
	store, token := s.store(t, Options{}), newToken(t, home, 100)
	raise(t, store, "u", token, time.Minute)
	s.stop()
	// Nobody is there: an error, soon.
	began := time.Now()
	_, err := s.store(t, Options{Timeout: 300 * time.Millisecond}).Load(t.Context(), "u")
	if took := time.Since(began); err == nil || took > 3*time.Second {
		t.Errorf("a load without a server returns %v after %v, want an error within 300 ms", err, took)
	}
	if err := store.Raise(t.Context(), "u", token, time.Minute); err == nil {
		t.Error("a raise without a server returns no error")
	}
	s.start(t)
	if got := load(t, store, "u"); !got.IsZero() {
		t.Errorf("a server that was restarted empty holds %v, want no token", got)
	}
	raise(t, store, "u", token, time.Minute)
	if got := load(t, store, "u"); !got.Equal(token) {
		t.Errorf("after the restart the key holds %v, want %v", got, token)
	}
}

// A server that takes connections and does not answer.
func TestFrozen(t *testing.T) {
	s := startServer(t)
	store := s.store(t, Options{Timeout: 100 * time.Millisecond})
	load(t, s.store(t, Options{}), "u")
	if err := s.client(t).Do(t.Context(), "client", "pause", 60_000, "all").Err(); err != nil {
		t.Fatal(err)
	}
	for what, call := range map[string]func() error{
		"load":  func() error { _, err := store.Load(t.Context(), "u"); return err },
		"raise": func() error { return store.Raise(t.Context(), "u", newToken(t, home, 1), time.Minute) },
	} {
		began := time.Now()
		if err, took := call(), time.Since(began); err == nil || took > 2*time.Second {
			t.Errorf("%s at a server that is frozen returns %v after %v, want an error after 100 ms", what, err, took)
		}
	}
}

func TestNewPanics(t *testing.T) {
	obeys := redis.NewClient(&redis.Options{ContextTimeoutEnabled: true})
	defer obeys.Close()
	deaf := redis.NewClient(&redis.Options{})
	defer deaf.Close()
	astray := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, ContextTimeoutEnabled: true, ReadOnly: true})
	defer astray.Close()
	for _, tt := range []struct {
		name, want string
		options    Options
	}{
		{"no client", "Client is nil", Options{}},
		{"a client that ignores deadlines", "ContextTimeoutEnabled", Options{Client: deaf}},
		{"a client that reads at replicas", "ReadOnly", Options{Client: astray}},
		{"timeout", "Timeout -1s", Options{Client: obeys, Timeout: -time.Second}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.HasPrefix(got, "pgtideredis: ") || !strings.Contains(got, tt.want) {
					t.Errorf("panic says %q, want it to say %q", got, tt.want)
				}
			}()
			newStore(func() uint64 { return home }, tt.options)
		})
	}
	defer func() {
		if got := fmt.Sprint(recover()); !strings.Contains(got, "db is nil") {
			t.Errorf("panic says %q, want it to say that db is nil", got)
		}
	}()
	New(nil, Options{Client: obeys})
}
