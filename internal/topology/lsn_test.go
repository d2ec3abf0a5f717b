package topology

import (
	"strings"
	"testing"
)

func TestParseLSN(t *testing.T) {
	for _, c := range []struct {
		text string
		want LSN
	}{
		{"0/0", 0},
		{"0/1", 1},
		{"16/B374D848", 0x16_B374D848},
		{"16/b374d848", 0x16_B374D848},
		{"1/00000028", 0x1_00000028}, // PostgreSQL 19 pads the second number
		{"FFFFFFFF/FFFFFFFF", ^LSN(0)},
	} {
		got, err := ParseLSN(c.text)
		if err != nil || got != c.want {
			t.Errorf("ParseLSN(%q) = %v, %v, want %v", c.text, got, err, c.want)
		}
	}
	for _, bad := range []string{
		"", "/", "1", "1/", "/1", "0x1/1", "1/2/3", "-1/1", "+1/1", "1/ 2", "1_0/1",
		"100000000/0", "0/100000000", "G/0", "0/G", strings.Repeat("1", 1000) + "/0",
	} {
		got, err := ParseLSN(bad)
		if err == nil || got != 0 {
			t.Errorf("ParseLSN(%.20q) = %v, %v, want an error", bad, got, err)
		} else if len(err.Error()) > 200 {
			t.Errorf("the error for a text of %d bytes has %d: it must not repeat all of it", len(bad), len(err.Error()))
		}
	}
}

func FuzzParseLSN(f *testing.F) {
	for _, s := range []string{"16/B374D848", "0/0", "FFFFFFFF/FFFFFFFF", "0/", "//"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseLSN(s)
		if err != nil {
			return
		}
		again, err := ParseLSN(l.String())
		if err != nil || again != l {
			t.Fatalf("ParseLSN(%q) = %v, which parses as %v, %v", s, l, again, err)
		}
		if plain := strings.TrimLeft(s, "0"); len(plain) > 17 {
			t.Fatalf("ParseLSN(%q) accepts more than 64 bits", s)
		}
	})
}

func TestLSNString(t *testing.T) {
	for l, want := range map[LSN]string{0: "0/0", 0x16_B374D848: "16/B374D848", 0x1_00000028: "1/28", ^LSN(0): "FFFFFFFF/FFFFFFFF"} {
		if got := l.String(); got != want {
			t.Errorf("LSN(%d).String() = %q, want %q", uint64(l), got, want)
		}
	}
}

func TestNormalize(t *testing.T) {
	const (
		page    = 8192
		segment = 16 << 20
		base    = LSN(3 * segment) // where a segment begins
	)
	small := Geometry{Page: page, Segment: 1 << 20}
	for _, c := range []struct {
		what     string
		geometry Geometry
		lsn      LSN
		want     LSN
	}{
		{"inside a page", DefaultGeometry, base + 5*page + 1000, base + 5*page + 1000},
		{"past a page header", DefaultGeometry, base + 5*page + 24, base + 5*page},
		{"past the second page's header", DefaultGeometry, base + page + 24, base + page},
		{"past the last page's header", DefaultGeometry, base + segment - page + 24, base + segment - page},
		{"at a page's start", DefaultGeometry, base + 5*page, base + 5*page},
		{"the first record of a page", DefaultGeometry, base + 5*page + 32, base + 5*page + 32},
		{"a segment header's length into another page", DefaultGeometry, base + 5*page + 40, base + 5*page + 40},
		{"past a segment header", DefaultGeometry, base + 40, base},
		{"at a segment's start", DefaultGeometry, base, base},
		{"inside a segment header", DefaultGeometry, base + 24, base + 24},
		{"a small segment's header", small, 1<<20 + 40, 1 << 20},
		{"the same place in a large segment", DefaultGeometry, 1<<20 + 40, 1<<20 + 40},
		{"a page header before a small segment", small, 1<<20 - page + 24, 1<<20 - page},
		{"a large page", Geometry{Page: 32768, Segment: segment}, base + 32768 + 24, base + 32768},
		{"a small page's place in a large page", Geometry{Page: 32768, Segment: segment}, base + page + 24, base + page + 24},
		{"no geometry", Geometry{}, base + 5*page + 24, base + 5*page},
		{"nothing", DefaultGeometry, 0, 0},
	} {
		if got := c.geometry.Normalize(c.lsn); got != c.want {
			t.Errorf("%s: Normalize(%v) = %v, want %v", c.what, c.lsn, got, c.want)
		}
	}
}

// serverPosition is what the server makes of n bytes of records when it tells
// the insert position, by its own arithmetic: each page holds what its header
// leaves over. It is written apart from Normalize, to check it.
func serverPosition(g Geometry, n uint64, start bool) LSN {
	perPage := g.Page - shortPageHeader
	perSegment := g.Segment/g.Page*perPage - (longPageHeader - shortPageHeader)
	segments, rest := n/perSegment, n%perSegment
	first := g.Page - longPageHeader
	switch {
	case rest == 0 && !start:
		return LSN(segments * g.Segment)
	case rest < first || rest == first && !start:
		return LSN(segments*g.Segment + longPageHeader + rest)
	}
	rest -= first
	pages, rest := rest/perPage, rest%perPage
	if rest == 0 && !start {
		return LSN(segments*g.Segment + g.Page + pages*g.Page)
	}
	return LSN(segments*g.Segment + g.Page + pages*g.Page + shortPageHeader + rest)
}

// A record that ends after n bytes leaves the insert position where the next
// one starts, and a replica where this one ends.
func TestNormalizeAgreesWithTheServer(t *testing.T) {
	for _, g := range []Geometry{DefaultGeometry, {Page: 8192, Segment: 1 << 20}, {Page: 16384, Segment: 1 << 20}} {
		differ := 0
		for n := uint64(8); n < 3<<20; n += 8 {
			insert, replayed := serverPosition(g, n, true), serverPosition(g, n, false)
			if got := g.Normalize(insert); got != replayed {
				t.Fatalf("%+v: Normalize(%v) = %v after %d bytes, a replica reports %v", g, insert, got, n, replayed)
			}
			if insert != replayed {
				differ++
			}
		}
		if want := 3 << 20 / int(g.Page); differ < want-5 || differ > want+5 {
			t.Errorf("%+v: the positions differ at %d boundaries, want about %d", g, differ, want)
		}
	}
}

func TestPosition(t *testing.T) {
	if !(Position{}).IsZero() || (Position{Timeline: 1}).IsZero() || (Position{LSN: 1}).IsZero() {
		t.Error("only the zero Position is none")
	}
	if got, want := (Position{3, 0x16_B374D848}).String(), "3:16/B374D848"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
	order := []Position{{}, {1, 0}, {1, 5}, {1, 6}, {2, 0}, {2, 5}}
	for i, p := range order {
		for j, q := range order {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := p.Compare(q); got != want {
				t.Errorf("%v.Compare(%v) = %d, want %d", p, q, got, want)
			}
		}
	}
}
