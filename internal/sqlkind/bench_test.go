package sqlkind

import (
	"fmt"
	"strings"
	"testing"
)

// query returns a plain query of about size bytes.
func query(size int) string {
	var b strings.Builder
	b.WriteString("SELECT u.id, u.name, count(*) AS n FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = $1")
	for i := 2; b.Len() < size-30; i++ {
		fmt.Fprintf(&b, " AND o.column_%d <> lower($%d)", i, i)
	}
	return b.String()
}

var sizes = []int{100, 2 << 10, 64 << 10, 10 << 20}

// BenchmarkHit is a text that was seen before: as the very string, as a program's
// constants are, and as an equal string built anew.
func BenchmarkHit(b *testing.B) {
	for _, size := range sizes {
		sql := query(size)
		for name, again := range map[string]string{"same": sql, "equal": strings.Clone(sql)} {
			b.Run(fmt.Sprintf("%s/%d", name, len(sql)), func(b *testing.B) {
				var c Cache
				c.Classify(sql)
				b.ReportAllocs()
				for b.Loop() {
					if c.Classify(again).Kind != Read {
						b.Fatal("not a read")
					}
				}
			})
		}
	}
}

// BenchmarkHitParallel shows that hits do not wait for each other.
func BenchmarkHitParallel(b *testing.B) {
	var c Cache
	sql := query(100)
	c.Classify(sql)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Classify(sql)
		}
	})
}

// BenchmarkNew is a text that was never seen.
func BenchmarkNew(b *testing.B) {
	for _, size := range sizes {
		sql := query(size)
		b.Run(fmt.Sprint(len(sql)), func(b *testing.B) {
			b.SetBytes(int64(len(sql)))
			b.ReportAllocs()
			for b.Loop() {
				if Classify(sql).Kind != Read {
					b.Fatal("not a read")
				}
			}
		})
	}
}

// BenchmarkMiss is a cache that never saw the text: classified and kept.
func BenchmarkMiss(b *testing.B) {
	var c Cache
	texts := make([]string, 1<<15)
	for i := range texts {
		texts[i] = query(100) + fmt.Sprintf(" /* %d */", i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c.Classify(texts[i%len(texts)])
	}
}
