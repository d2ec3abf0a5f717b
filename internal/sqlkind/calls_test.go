package sqlkind

import "testing"

func TestCalls(t *testing.T) {
	for sql, want := range map[string]bool{
		"select 1": false,
		"select count(*), max(a) from b where c in (1, 2) and exists (select 1)":   false,
		"select Lower(a)::varchar(10), coalesce(b, now()) from c":                  false,
		"with w as materialized (select 1) select * from w as v(a)":                false,
		"select row_number() over (partition by a) from b join lateral (c) on (d)": false,
		"select pg_relation_size('a')":                                             false,
		"select 'f(x)' -- f(x)":                                                    false,
		"select f(1)":                                                              true,
		"select f /* */ (1)":                                                       true,
		`select "Max"(1)`:                                                          true,
		"select app.max(1)":                                                        true,
		"select * from f(1)":                                                       true,
		"select max(f(1))":                                                         true,
		"select 'open":                                                             true,
	} {
		if got := Calls(sql); got != want {
			t.Errorf("Calls(%q) = %v, want %v", sql, got, want)
		}
		if v := Classify(sql); v.Kind == Read && v.Calls != want {
			t.Errorf("Classify(%q).Calls = %v, want %v", sql, v.Calls, want)
		}
	}
}
