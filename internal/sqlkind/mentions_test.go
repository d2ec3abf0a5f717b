package sqlkind

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestMentions(t *testing.T) {
	for _, c := range []struct{ sql, names, own string }{
		{"select a, b.c from public.t as b where x = 'from u' -- and v", "a b c public t x", ""},
		{`select "A", "b""c", D from "T" /* u */ where $1 = $q$ v $q$`, `A b"c d T`, ""},
		{"select count(*), f(x) from t where y in (select 1 from u)", "count f x t y u", ""},
		{"select * from only (t), lateral (select 1) s order by user, 1", "t s by", ""},
		{"select * from s.order, s.user", "s order user", ""}, // after a dot a keyword is a name
		{`select * from "order"`, "order", ""},
		{"with w as (table t) select * from w", "w t", ""},
		{"select a from t; select b from u", "a t b u", ""},
		{"select * from t where c::text = 'x' and t.c = 1", "t c text", ""},
		{"copy t (a) to stdout", "copy t a stdout", ""},
		{"select pg_typeof(a), pg_catalog.count(*) from t", "pg_typeof a pg_catalog count t", ""},
		{"select age(a), version from t", "age a version t", ""},

		{"select * from pg_class", "pg_class", "pg_class"},
		{"select pg_relation_size('t')", "", "pg_relation_size"},
		{"select * from information_schema.tables", "information_schema tables", "information_schema"},
		{"select CTID from t", "ctid t", "ctid"},
		{"select xmin, a from t", "xmin a t", "xmin"},
		{"select 't'::regclass", "regclass", "regclass"},
		{"select to_regclass('t')", "", "to_regclass"},
		{"select has_table_privilege('t', 'select')", "", "has_table_privilege"},
		{"select version()", "", "version"},
		{"show search_path", "show search_path", "show"},
		{"explain select 1", "explain", "explain"},
		{`select * from U&"\0074"`, "", "a name that is escaped or too long"},
		{"select * from " + strings.Repeat("x", 64), "", "a name that is escaped or too long"},
		{"select * from TÄBLE", "", "a name with letters that servers fold in different ways"},
		{"select * from t where a = 'x", "t a", "unterminated string"},
	} {
		m := MentionsOf(c.sql)
		if got := strings.Join(m.Names, " "); m.Own != c.own || m.Own == "" && got != c.names {
			t.Errorf("%s\nmentions %q, own %q; want %q, own %q", c.sql, got, m.Own, c.names, c.own)
		}
	}
	long := "select a0"
	for i := range 2 * mostNames {
		long += fmt.Sprintf(", a%d", i)
	}
	if m := MentionsOf(long); m.Own == "" || len(m.Names) > mostNames {
		t.Errorf("%d names of a long text are kept, own %q", len(m.Names), m.Own)
	}
}

// lackOf is a judge of two servers, of which the first lacks a name.
type lackOf struct {
	name  string
	asked int
}

func (l *lackOf) Fit(names []string) uint64 {
	l.asked++
	if slices.Contains(names, l.name) {
		return 2
	}
	return 3
}

func TestFitAsksAJudgeOnce(t *testing.T) {
	var c Cache
	one, two := &lackOf{name: "t"}, &lackOf{name: "u"}
	for range 3 {
		if got := Fit(c.Mentions("select * from t"), one); got != 2 {
			t.Errorf("fit for t are %b, want the second", got)
		}
	}
	if one.asked != 1 {
		t.Errorf("the judge was asked %d times", one.asked)
	}
	if got := Fit(c.Mentions("select * from t"), two); got != 3 {
		t.Errorf("another judge says %b, want both", got)
	}
	Unfit(c.Mentions("select * from t"), two, 2)
	if got := Fit(c.Mentions("select * from t"), two); got != 1 {
		t.Errorf("fit are %b after the second has said that it is not", got)
	}
	if got := Fit(c.Mentions("select * from t, pg_class"), two); got != 0 {
		t.Errorf("%b are fit for a server's own", got)
	}
	for _, sql := range []string{"select * from x -- " + strings.Repeat("y", 2*longestText), "select 1"} {
		for range 2 {
			if got := Fit(c.Mentions(sql), two); got != 3 {
				t.Errorf("fit for %.20s are %b, want both", sql, got)
			}
		}
	}
}

func BenchmarkFit(b *testing.B) {
	var c Cache
	j := &lackOf{name: "u"}
	const sql = "select id, owner, balance from account where id = $1 and owner = $2"
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			Fit(c.Mentions(sql), j)
		}
	})
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			MentionsOf(sql)
		}
	})
}
