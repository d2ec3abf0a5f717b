package pgtideredis

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pgtide/pgtide"
)

// Store keeps tokens under keys such as a user's id. Get one from [New]. It is
// safe for concurrent use.
type Store struct {
	// cluster returns the system identifier of the cluster whose tokens are
	// loaded. It is asked each time: a role may be allowed to see it later.
	cluster func() uint64
	o       Options
	bad     atomic.Int64
}

// Stat is a snapshot of what a [Store] has counted since it was made.
type Stat struct {
	// Bad counts findings that were no token: foreign content, or signed with a
	// key that is not accepted. The same one counts each time it is found.
	Bad int64
}

// New returns a Store for tokens of db's cluster. It panics when db is nil or o
// cannot be used: both are fixed when the program is written.
func New(db *pgtide.DB, o Options) *Store {
	if db == nil {
		panic("pgtideredis: db is nil: open one with pgtide.Open")
	}
	return newStore(db.SystemID, o)
}

func newStore(cluster func() uint64, o Options) *Store {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		panic("pgtideredis: " + err.Error())
	}
	return &Store{cluster: cluster, o: o}
}

// Stat returns a snapshot of s's counters.
func (s *Store) Stat() *Stat { return &Stat{Bad: s.bad.Load()} }

// Each key holds a set of texts, which together ask for what must be seen. A
// set only needs to be added to: what raisers do at the same time never
// conflicts, whatever the order, and the server needs to know nothing of what
// the texts say.
const (
	// crowd is how many texts a set may hold before a raiser makes one of them.
	crowd = 16
	// maxRemoved bounds the arguments of one call: Lua's stack is finite.
	maxRemoved = 1000
)

// add puts ARGV[2] into the set, takes the texts from ARGV[4] on out of it, and
// lets it live ARGV[1] ms or as long as before, whichever is longer. It returns
// the texts of a set that has more than ARGV[3].
var add = redis.NewScript(`
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'set' and kind ~= 'none' then
	redis.call('DEL', KEYS[1])
end
redis.call('SADD', KEYS[1], ARGV[2])
if #ARGV > 3 then
	redis.call('SREM', KEYS[1], unpack(ARGV, 4))
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then
	redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
if redis.call('SCARD', KEYS[1]) > tonumber(ARGV[3]) then
	return redis.call('SMEMBERS', KEYS[1])
end
return {}`)

// Load returns what the tokens under key together ask for, the zero Token if
// there are none. An error says that Redis did not answer as it should, in time.
func (s *Store) Load(ctx context.Context, key string) (pgtide.Token, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	id := s.cluster()
	texts, err := s.o.Client.SMembers(ctx, s.name(id, key)).Result()
	switch {
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		s.bad.Add(1)
		return pgtide.Token{}, nil
	case err != nil:
		return pgtide.Token{}, fmt.Errorf("load a token: %w", err)
	}
	t, _ := s.merge(id, texts)
	return t, nil
}

// Raise has Load return a token that asks for what t asks for too, for ttl from
// now on at least. The zero Token, and a ttl that is not positive, change
// nothing. Errors are those of [Store.Load]; after one, t may have been kept or
// not.
func (s *Store) Raise(ctx context.Context, key string, t pgtide.Token, ttl time.Duration) error {
	if t.IsZero() || ttl <= 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	id := t.SystemID()
	text, err := s.text(t)
	if err != nil {
		return fmt.Errorf("raise a token: %w", err)
	}
	name, ms := s.name(id, key), ttl.Milliseconds()+1
	texts, err := add.Run(ctx, s.o.Client, []string{name}, ms, text, crowd).StringSlice()
	if err != nil {
		return fmt.Errorf("raise a token: %w", err)
	}
	merged, readable := s.merge(id, texts)
	if len(readable) <= crowd {
		return nil
	}
	if text, err = s.text(merged); err != nil {
		return fmt.Errorf("merge tokens: %w", err)
	}
	args := []any{ms, text, math.MaxInt32}
	for _, old := range readable[:min(len(readable), maxRemoved)] {
		if old != text {
			args = append(args, old)
		}
	}
	// t is kept already. If this fails, the next raiser does it.
	_ = add.Run(ctx, s.o.Client, []string{name}, args...).Err()
	return nil
}

// name returns what key is called in Redis.
func (s *Store) name(cluster uint64, key string) string {
	return s.o.Prefix + strconv.FormatUint(cluster, 10) + ":" + key
}

func (s *Store) text(t pgtide.Token) (string, error) {
	if s.o.Keys != nil {
		if text := s.o.Keys.Sign(t, time.Now()); text != "" {
			return text, nil
		}
		return "", errors.New("there is no key in Keys: make them with pgtide.NewKeys")
	}
	text, err := t.MarshalText()
	return string(text), err
}

// merge returns what the texts of a cluster together ask for, and those of them
// that are tokens. The others may be of a newer version of this package, or
// signed with a key that this instance does not have yet, so they stay.
func (s *Store) merge(cluster uint64, texts []string) (t pgtide.Token, readable []string) {
	readable = slices.DeleteFunc(texts, func(text string) bool {
		u, err := s.parse(text)
		if err != nil || u.IsZero() || u.SystemID() != cluster {
			s.bad.Add(1)
			return true
		}
		t = t.Merge(u)
		return false
	})
	return t, readable
}

func (s *Store) parse(text string) (t pgtide.Token, err error) {
	if s.o.Keys != nil {
		// Redis forgets what is too old.
		return s.o.Keys.Verify(text, time.Now(), 0)
	}
	return t, t.UnmarshalText([]byte(text))
}
