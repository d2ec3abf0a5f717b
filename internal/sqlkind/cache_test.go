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
		{Read, "select"}, {Write, "refused"}, {Session, "told"}, {Unknown, ""}, {Read, "taken back"},
	} {
		if want.Reason != "select" {
			c.Learn(sql, want.Kind, want.Reason)
		}
		if got := c.Classify(sql); got != want {
			t.Errorf("Classify = %v, want %v", got, want)
		}
		if got, want := c.Classify("select f() "), (Verdict{Read, "select"}); got != want {
			t.Errorf("another text is %v, want %v", got, want)
		}
	}
	var learnedFirst Cache
	learnedFirst.Learn(sql, Write, "refused")
	if got, want := learnedFirst.Classify(sql), (Verdict{Write, "refused"}); got != want {
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
			if got, want := c.Classify(sql), (Verdict{Read, "select"}); got != want {
				t.Errorf("Classify = %v, want %v", got, want)
			}
		}
		if i%2 == 0 {
			c.Learn(sql, Write, "learned")
			if got, want := c.Classify(sql), (Verdict{Write, "learned"}); got != want {
				t.Errorf("Classify = %v, want %v", got, want)
			}
		}
	}
	if n, _, longest := c.kept(); n != 10 || longest >= 100 {
		t.Errorf("%d texts kept, the longest of %d bytes, want 10 digests", n, longest)
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
		if c.Classify(learned(i)) == (Verdict{Write, "refused"}) {
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
			want := Verdict{Read, "select"}
			if i == 0 {
				want = Verdict{Write, "learned"}
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
				if got, want := c.Classify(sql), (Verdict{Read, "select"}); got != want {
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
	for _, sql := range []string{"select 1", query(2 << 10), query(longestText)} {
		c.Classify(sql)
		copied := strings.Clone(sql)
		if n := testing.AllocsPerRun(100, func() { c.Classify(sql); c.Classify(copied) }); n != 0 {
			t.Errorf("a hit of %d bytes allocates %v times, want 0", len(sql), n)
		}
	}
}
