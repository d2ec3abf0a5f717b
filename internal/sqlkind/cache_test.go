package sqlkind

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// kept counts the entries of both generations and the bytes of their texts.
func (c *Cache) kept() (entries, size, longest int) {
	state := c.state.Load()
	for _, g := range []*generation{state.young, state.old} {
		if g == nil {
			continue
		}
		for i := range g.slots {
			if e := g.slots[i].Load(); e != nil {
				entries++
				size += len(e.text)
				longest = max(longest, len(e.text))
			}
		}
	}
	return entries, size, longest
}

func TestCacheLearn(t *testing.T) {
	c := NewCache(0)
	const sql = "select f()"
	for _, want := range []Verdict{
		{Kind: Read, Reason: "select", Calls: true}, {Kind: Write, Reason: "refused"}, {Kind: Session, Reason: "told", Leaves: true},
		{}, {Kind: Read, Reason: "taken back", Calls: true},
	} {
		if want.Reason != "select" {
			c.Learn(sql, want.Kind, want.Reason)
		}
		if got := c.Classify(sql); got != want {
			t.Errorf("Classify = %v, want %v", got, want)
		}
		if got, want := c.Classify("select f() "), (Verdict{Kind: Read, Reason: "select", Calls: true}); got != want {
			t.Errorf("another text is %v, want %v", got, want)
		}
	}
	var learnedFirst Cache
	learnedFirst.Learn(sql, Write, "refused")
	if got, want := learnedFirst.Classify(sql), (Verdict{Kind: Write, Reason: "refused"}); got != want {
		t.Errorf("Classify = %v, want %v", got, want)
	}
}

func TestCacheBounded(t *testing.T) {
	for _, texts := range []int{-1, 0, 1, 2, 3, 100, 1000} {
		c := NewCache(texts)
		limit := texts
		if texts <= 0 {
			limit = DefaultTexts
		}
		for i := range 3*limit + 100 {
			sql := fmt.Sprint("select ", i)
			if i%3 == 0 {
				c.Learn(sql, Write, "learned")
			} else if got := c.Classify(sql); got.Kind != Read {
				t.Fatalf("Classify(%q) = %v, want a read", sql, got)
			}
			if i%limit == limit-1 {
				// Either generation holds one at least.
				if n, _, _ := c.kept(); n > max(2, limit)+2 {
					t.Fatalf("%d texts kept after %d, want at most %d", n, i, limit)
				}
			}
		}
	}
}

func TestCacheBytes(t *testing.T) {
	c := NewCache(1 << 20)
	filler := strings.Repeat(" ", longestText-len("select 12345"))
	for i := range 1200 {
		sql := fmt.Sprintf("select %05d", i) + filler
		if got := c.Classify(sql); got.Kind != Read {
			t.Fatalf("Classify = %v, want a read", got)
		}
	}
	if _, size, _ := c.kept(); size > 2*(generationBytes+longestText) || size < generationBytes {
		t.Errorf("%d bytes of text kept, want up to %d", size, 2*generationBytes)
	}
}

func TestCacheLongTexts(t *testing.T) {
	var c Cache
	filler := strings.Repeat("x", longestText)
	for i := range 10 {
		sql := fmt.Sprintf("select '%s', f(%d)", filler, i)
		for range 2 {
			if got, want := c.Classify(sql), (Verdict{Kind: Read, Reason: "select", Calls: true}); got != want {
				t.Errorf("Classify = %v, want %v", got, want)
			}
		}
		if i%2 == 0 {
			c.Learn(sql, Write, "learned")
			if got, want := c.Classify(sql), (Verdict{Kind: Write, Reason: "learned"}); got != want {
				t.Errorf("Classify = %v, want %v", got, want)
			}
		}
	}
	if n, _, longest := c.kept(); n != 10 || longest >= 100 {
		t.Errorf("%d texts kept, the longest of %d bytes, want 10 digests", n, longest)
	}
}

// TestCacheRecent has long texts come and go: few are kept themselves, and each
// has its last verdict whether it is or not.
func TestCacheRecent(t *testing.T) {
	var c Cache
	const size = 3 << 20
	text := func(i int) string { return fmt.Sprintf("select %d, '%s', %d", i, strings.Repeat("x", size), i) }
	kinds := map[int]Kind{}
	for round := range 2 {
		for i := range 12 {
			sql := text(i)
			want := Read
			if kind, learned := kinds[i]; learned {
				want = kind
			}
			for range 2 {
				if got := c.Classify(sql); got.Kind != want {
					t.Errorf("round %d: text %d is %v, want a %v", round, i, got, want)
				}
			}
			if i%3 == round {
				c.Learn(sql, Write, "refused")
				kinds[i] = Write
				if got := c.Classify(sql); got.Kind != Write {
					t.Errorf("round %d: text %d is %v after it was learned", round, i, got)
				}
			}
		}
	}
	sum, texts := 0, 0
	for i := range c.recent {
		if e := c.recent[i].Load(); e != nil {
			sum += len(e.text)
			texts++
		}
	}
	if sum != c.recall || sum > recentBytes || texts < 2 {
		t.Errorf("%d long texts of %d bytes are kept (%d counted), want some and %d bytes at most", texts, sum, c.recall, recentBytes)
	}
	huge := text(0) + strings.Repeat(" ", recentBytes)
	for range 2 {
		if got := c.Classify(huge); got.Kind != Read {
			t.Errorf("a text of %d bytes is %v", len(huge), got)
		}
		c.Learn(huge, Read, "again")
	}
	if c.recall > recentBytes {
		t.Errorf("%d bytes are kept after a text of %d", c.recall, len(huge))
	}
}

// TestCacheManyTexts has more texts than anybody should: the cache stays as it is.
func TestCacheManyTexts(t *testing.T) {
	var c Cache
	for i := range 100_000 {
		sql := fmt.Sprintf("select name from users where id = %d and region = 'north-%d'", i, i%97)
		if got := c.Classify(sql); got.Kind != Read {
			t.Fatalf("Classify(%q) = %v", sql, got)
		}
	}
	if n, size, _ := c.kept(); n > DefaultTexts || size > 100*DefaultTexts {
		t.Errorf("%d texts of %d bytes are kept, want %d texts at most", n, size, DefaultTexts)
	}
}

// TestCacheGenerations fills many generations: what is asked for stays without
// being classified again, and so does what was learned, asked for or not.
func TestCacheGenerations(t *testing.T) {
	c := NewCache(64)
	learned := func(i int) string { return fmt.Sprintf("select learned(%d)", i) }
	for i := range 8 {
		c.Learn(learned(i), Write, "refused")
	}
	c.Learn("select told()", Read, "told twice")
	c.Learn("select told()", Session, "told twice")
	const popular = "select popular()"
	c.Classify(popular)
	for i := range 1000 {
		c.Classify(fmt.Sprint("select ", i))
		if i%10 == 0 {
			c.Classify(popular)
			hash := sample(popular)
			if c.state.Load().young.find(hash, popular) == nil {
				t.Fatalf("a text asked for each 10 texts was dropped after %d", i)
			}
		}
	}
	survivors := 0
	for i := range 8 {
		if c.Classify(learned(i)) == (Verdict{Kind: Write, Reason: "refused"}) {
			survivors++
		}
	}
	// A quarter of a generation of 32 is 8, of which one is told().
	if survivors < 7 {
		t.Errorf("%d of 8 learned verdicts survived, want 7 at least", survivors)
	}
}

// TestCacheCollisions has texts of equal samples, more than a lookup goes
// through.
func TestCacheCollisions(t *testing.T) {
	c := NewCache(0)
	text := func(i int) string {
		return "select '" + strings.Repeat("x", 100) + fmt.Sprintf("%04d", i) + strings.Repeat("x", 400) + "', f()"
	}
	if sample(text(0)) != sample(text(1)) {
		t.Fatal("the texts do not collide: the test shows nothing")
	}
	c.Learn(text(0), Write, "learned")
	for range 2 {
		for i := range 10 * probes {
			want := Verdict{Kind: Read, Reason: "select", Calls: true}
			if i == 0 {
				want = Verdict{Kind: Write, Reason: "learned"}
			}
			if got := c.Classify(text(i)); got != want {
				t.Errorf("text %d is %v, want %v", i, got, want)
			}
		}
	}
	if n, _, _ := c.kept(); n > probes {
		t.Errorf("%d texts kept, want %d at most", n, probes)
	}
}

// TestCacheConcurrent classifies, learns and fills generations at once; the race
// detector looks on. What was learned holds for whoever comes after.
func TestCacheConcurrent(t *testing.T) {
	c := NewCache(256)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			mine := fmt.Sprintf("select mine(%d)", g)
			for i := range 2000 {
				sql := fmt.Sprint("select ", (g*977+i)%1500)
				if got, want := c.Classify(sql), (Verdict{Kind: Read, Reason: "select"}); got != want {
					t.Errorf("Classify(%q) = %v, want %v", sql, got, want)
				}
				if got := c.Classify("delete from t"); got.Kind != Write {
					t.Errorf("a delete is %v", got)
				}
				if i == 100 {
					c.Learn(mine, Write, "learned")
				}
				if got := c.Classify(mine); i >= 100 && got.Kind != Write {
					t.Errorf("after %d texts, Classify(%q) = %v, want what was learned", i, mine, got)
				}
			}
		})
	}
	wg.Wait()
}

func TestCacheAllocs(t *testing.T) {
	var c Cache
	for _, sql := range []string{"select 1", query(2 << 10), query(longestText), query(10 << 20)} {
		c.Classify(sql)
		copied := strings.Clone(sql)
		if len(sql) > longestText {
			copied = sql // another string of this length is compared and never kept
		}
		if n := testing.AllocsPerRun(100, func() { c.Classify(sql); c.Classify(copied) }); n != 0 {
			t.Errorf("a hit of %d bytes allocates %v times, want 0", len(sql), n)
		}
	}
}
