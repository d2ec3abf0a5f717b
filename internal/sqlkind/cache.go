package sqlkind

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
	"sync/atomic"
)

const (
	// DefaultTexts is how many texts a Cache keeps unless told otherwise.
	DefaultTexts = 8192

	// longestText is the length in bytes beyond which a Cache keeps a digest in
	// place of the text, and the text itself only while it is recent.
	longestText = 64 << 10

	// recentTexts and recentBytes bound the long texts that are kept themselves.
	recentTexts = 16
	recentBytes = 16 << 20

	// generationBytes bounds the text that one of the two generations keeps.
	generationBytes = 16 << 20

	// probes bounds a lookup. Texts that collide beyond it take turns in a slot.
	probes = 16
)

// Cache remembers verdicts by text. It keeps a bounded number of texts and at
// most 48 MiB of them, by reference to the caller's strings. A hit takes no lock,
// allocates nothing, and takes the same time for a text of any length when it is
// the very string that was seen before.
//
// Of a text over 64 KiB a digest is kept, and the last few such texts themselves:
// one that is not among them, or is over 16 MiB, is read once to be found again.
//
// Verdicts live in two generations. A full one makes room for the next, which
// takes over every text that is asked for again. What was learned is carried
// over unasked, up to a quarter of the room, and is lost last.
//
// The zero value is a cache of DefaultTexts. All methods are safe for concurrent
// use. A Cache must not be copied after first use.
type Cache struct {
	state atomic.Pointer[generations]

	// recent holds long texts by their samples.
	recent [recentTexts]atomic.Pointer[entry]

	mu     sync.Mutex // guards every change, and what follows
	texts  int
	recall int // bytes of the texts in recent
}

// NewCache returns a cache that keeps up to texts texts. Zero or less means
// DefaultTexts.
func NewCache(texts int) *Cache { return &Cache{texts: texts} }

// generations is the pair in use; old is nil until the first one was full.
type generations struct{ young, old *generation }

// generation is a hash table that only grows. Readers need no lock: a slot goes
// from nil to an entry, and from then on holds some entry.
type generation struct {
	slots []atomic.Pointer[entry]
	room  int // entries and bytes that still fit; guarded by Cache.mu
	bytes int
}

// entry is one text and what it is. It never changes but for its mentions, which
// are found when somebody asks for them.
type entry struct {
	hash     uint64
	text     string
	verdict  Verdict
	learned  bool
	mentions atomic.Pointer[Mentions]
}

// seed and second make the hashes of this process differ from any other's.
var seed, second = maphash.MakeSeed(), maphash.MakeSeed()

// Classify returns what Learn was told of sql, else what [Classify] says.
func (c *Cache) Classify(sql string) Verdict { return c.entry(sql).verdict }

// Mentions returns what [MentionsOf] says of sql.
func (c *Cache) Mentions(sql string) *Mentions {
	e := c.entry(sql)
	if m := e.mentions.Load(); m != nil {
		return m
	}
	e.mentions.CompareAndSwap(nil, MentionsOf(sql))
	return e.mentions.Load()
}

func (c *Cache) entry(sql string) *entry {
	text, hash := sql, sample(sql)
	if len(sql) > longestText {
		if e := c.recent[hash%recentTexts].Load(); e != nil && e.hash == hash && e.text == sql {
			return e
		}
		text = digest(sql)
		hash = sample(text)
	}
	var e *entry
	if state := c.state.Load(); state != nil {
		if e = state.young.find(hash, text); e != nil && len(sql) <= longestText {
			return e
		}
		if e == nil {
			e = state.old.find(hash, text)
		}
	}
	if e == nil {
		e = &entry{hash: hash, text: text, verdict: Classify(sql)}
	}
	return c.put(e, sql)
}

// Learn makes Classify return kind and reason for exactly this text from now on,
// with the hint that it begins with. A caller uses it when a server has shown
// what the text alone could not, such as a replica that refused a Read. It is for
// a Write or a Session; to learn a Read takes the responsibility for it.
func (c *Cache) Learn(sql string, kind Kind, reason string) {
	hint, _ := hintOf(sql)
	text := sql
	if len(sql) > longestText {
		text = digest(sql)
	}
	v := Verdict{
		Kind: kind, Reason: reason, Hint: hint,
		Calls:  kind == Read && Calls(sql),
		Leaves: kind == Session || kind != Read && (hint.Session || Leaves(sql)),
	}
	c.put(&entry{hash: sample(text), text: text, verdict: v, learned: true}, sql)
}

// put adds e, the entry of sql, to the young generation and returns the entry
// that holds for its text: e, unless one was there already and e is not learned.
func (c *Cache) put(e *entry, sql string) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	state := c.state.Load()
	if state == nil {
		state = &generations{young: newGeneration(c.limit())}
		c.state.Store(state)
	}
	// Between the caller's look and the lock a refusal may have been learned. The
	// young generation knows by itself.
	if found := state.old.find(e.hash, e.text); found != nil && found.learned && !e.learned {
		e = found
	}
	if state.young.full() {
		state = c.turn(state)
	}
	e = state.young.put(e)
	if len(sql) > longestText {
		c.remember(sql, e.verdict)
	}
	return e
}

// remember keeps a long text itself until others take its place.
func (c *Cache) remember(sql string, v Verdict) {
	e := &entry{hash: sample(sql), text: sql, verdict: v}
	slot := int(e.hash % recentTexts)
	// Its own place is cleared first: a text too long to keep must not leave there
	// what was said of it before.
	for i := 0; i < recentTexts && (i == 0 || c.recall+len(sql) > recentBytes); i++ {
		if old := c.recent[(slot+i)%recentTexts].Swap(nil); old != nil {
			c.recall -= len(old.text)
		}
	}
	if len(sql) <= recentBytes {
		c.recall += len(sql)
		c.recent[slot].Store(e)
	}
}

// limit is how many entries a generation holds.
func (c *Cache) limit() int {
	if c.texts <= 0 {
		return DefaultTexts / 2
	}
	return max(1, c.texts/2)
}

// turn makes the young generation the old one. What was learned moves on, the
// latest first.
func (c *Cache) turn(state *generations) *generations {
	next := &generations{young: newGeneration(c.limit()), old: state.young}
	room, bytes := next.young.room*3/4, next.young.bytes*3/4
	for _, g := range []*generation{state.young, state.old} {
		if g == nil {
			continue
		}
		for i := range g.slots {
			if next.young.room <= room || next.young.bytes <= bytes {
				break
			}
			e := g.slots[i].Load()
			if e != nil && e.learned && next.young.find(e.hash, e.text) == nil {
				next.young.put(e)
			}
		}
	}
	c.state.Store(next)
	return next
}

func newGeneration(limit int) *generation {
	size := probes
	for size < 2*limit {
		size *= 2
	}
	return &generation{slots: make([]atomic.Pointer[entry], size), room: limit, bytes: generationBytes}
}

func (g *generation) full() bool { return g.room <= 0 || g.bytes <= 0 }

// find returns the entry of a text, or nil. A nil generation has none.
func (g *generation) find(hash uint64, text string) *entry {
	if g == nil {
		return nil
	}
	mask := uint64(len(g.slots) - 1)
	for i := range uint64(probes) {
		e := g.slots[(hash+i)&mask].Load()
		if e == nil {
			return nil
		}
		if e.hash == hash && e.text == text {
			return e
		}
	}
	return nil
}

// put stores e and returns it, or the entry already there if e is not learned.
// Cache.mu is held.
func (g *generation) put(e *entry) *entry {
	mask := uint64(len(g.slots) - 1)
	slot := &g.slots[e.hash&mask]
	for i := range uint64(probes) {
		s := &g.slots[(e.hash+i)&mask]
		found := s.Load()
		if found == nil {
			g.room--
			slot = s
			break
		}
		if found.hash == e.hash && found.text == e.text {
			if !e.learned {
				return found
			}
			slot = s
			break
		}
	}
	if displaced := slot.Load(); displaced != nil {
		if displaced.learned && !e.learned {
			return e // not worth it
		}
		g.bytes += len(displaced.text)
	}
	g.bytes -= len(e.text)
	slot.Store(e)
	return e
}

// sample hashes a text by its length and, where it is long, by four pieces of
// it, so that no text takes longer than a short one. Texts that differ elsewhere
// collide and are told apart by comparison.
func sample(text string) uint64 {
	const piece = 32
	n := len(text)
	if n <= 4*piece {
		return maphash.String(seed, text)
	}
	// The end counts most: conditions stand there.
	hash := uint64(n)
	for _, at := range [...]int{0, n / 3, 2 * n / 3, n - piece} {
		hash = hash*0x9e3779b97f4a7c15 ^ maphash.String(seed, text[at:at+piece])
	}
	return hash
}

// digest stands for a text too long to keep. No text of a statement equals one:
// it begins with a NUL byte.
func digest(text string) string {
	var b [25]byte
	binary.LittleEndian.PutUint64(b[1:], uint64(len(text)))
	binary.LittleEndian.PutUint64(b[9:], maphash.String(seed, text))
	binary.LittleEndian.PutUint64(b[17:], maphash.String(second, text))
	return string(b[:])
}
