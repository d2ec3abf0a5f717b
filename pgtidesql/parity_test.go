package pgtidesql_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgtide/pgtide"
)

// doings are what programs do with a *sql.DB. Each says what came of it.
var doings = map[string]func(ctx context.Context, db *sql.DB) (string, error){
	"null types": func(ctx context.Context, db *sql.DB) (string, error) {
		var (
			s sql.NullString
			i sql.NullInt64
			b sql.NullBool
			f sql.NullFloat64
			t sql.NullTime
			g sql.Null[int32]
			e sql.NullString
		)
		err := db.QueryRowContext(ctx, `select 'a', 1::bigint, true, 1.5::float8, timestamptz '2020-01-02 03:04:05Z', 7::int4, null::text`).
			Scan(&s, &i, &b, &f, &t, &g, &e)
		return fmt.Sprint(s, i, b, f, t.Time.UTC(), g, e), err
	},
	"null arguments": func(ctx context.Context, db *sql.DB) (string, error) {
		var n int
		err := db.QueryRowContext(ctx, "select num_nulls($1::text, $2::int, $3::bool, $4::jsonb)", nil, sql.NullInt64{}, (*bool)(nil), sql.Null[string]{}).Scan(&n)
		return fmt.Sprint(n), err
	},
	"arrays": func(ctx context.Context, db *sql.DB) (string, error) {
		var ints []int32
		var texts []string
		m := pgtype.NewMap()
		err := db.QueryRowContext(ctx, "select array[1,2,3], $1::text[]", []string{"x", `"y"`, ""}).Scan(m.SQLScanner(&ints), m.SQLScanner(&texts))
		return fmt.Sprintf("%v %q", ints, texts), err
	},
	"JSON": func(ctx context.Context, db *sql.DB) (string, error) {
		var raw []byte
		var text string
		err := db.QueryRowContext(ctx, "select $1::jsonb, $2::json ->> 'a'", map[string]any{"b": []int{1}}, `{"a":"c"}`).Scan(&raw, &text)
		return string(raw) + text, err
	},
	"every kind of value as any": func(ctx context.Context, db *sql.DB) (string, error) {
		var v [14]any
		p := make([]any, len(v))
		for i := range v {
			p[i] = &v[i]
		}
		err := db.QueryRowContext(ctx, `select 1::int2, 2::int4, 3::int8, 1.5::float4, 2.5::float8, 12.340::numeric, true, 'text'::text, '\xdead'::bytea,
			date '2020-02-03', timestamp '2020-02-03 04:05:06', uuid 'f47ac10b-58cc-4372-a567-0e02b2c3d479', interval '1 day 2 hours', int4range(1, 5)`).Scan(p...)
		return fmt.Sprintf("%#v", v), err
	},
	"types of its own": func(ctx context.Context, db *sql.DB) (string, error) {
		var c celsius
		var text string
		err := db.QueryRowContext(ctx, "select $1::float8, $2::text", celsius(21), celsius(3)).Scan(&c, &text)
		return fmt.Sprint(c, text), err
	},
	"pgtype values": func(ctx context.Context, db *sql.DB) (string, error) {
		var n pgtype.Numeric
		var d pgtype.Date
		err := db.QueryRowContext(ctx, "select $1::numeric, $2::date", pgtype.Float8{Float64: 2.25, Valid: true}, pgtype.Date{Time: time.Unix(0, 0), Valid: true}).Scan(&n, &d)
		return fmt.Sprint(n, d), err
	},
	"column types": func(ctx context.Context, db *sql.DB) (string, error) {
		rows, err := db.QueryContext(ctx, "select 1::int8 as a, 'x'::varchar(7) as b, 1.5::numeric(10,3) as c, null::jsonb as d, array[1] as e")
		if err != nil {
			return "", err
		}
		defer rows.Close()
		names, err := rows.Columns()
		if err != nil {
			return "", err
		}
		types, err := rows.ColumnTypes()
		out := fmt.Sprint(names)
		for _, t := range types {
			length, hasLength := t.Length()
			precision, scale, hasScale := t.DecimalSize()
			nullable, known := t.Nullable()
			out += fmt.Sprint(" ", t.Name(), t.DatabaseTypeName(), t.ScanType(), length, hasLength, precision, scale, hasScale, nullable, known)
		}
		return out, err
	},
	"several result sets": func(ctx context.Context, db *sql.DB) (string, error) {
		rows, err := db.QueryContext(ctx, "select 1; select 2", pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			return "", err
		}
		defer rows.Close()
		out := ""
		for {
			for rows.Next() {
				var n int
				if err := rows.Scan(&n); err != nil {
					return out, err
				}
				out += fmt.Sprint(n)
			}
			if !rows.NextResultSet() {
				return out, rows.Err()
			}
		}
	},
	"rows affected and last id": func(ctx context.Context, db *sql.DB) (string, error) {
		r, err := db.ExecContext(ctx, "insert into message (text) select 'parity' from generate_series(1, 3)")
		if err != nil {
			return "", err
		}
		n, err := r.RowsAffected()
		_, noID := r.LastInsertId()
		return fmt.Sprint(n, noID), err
	},
	"named arguments": func(ctx context.Context, db *sql.DB) (string, error) {
		var n int
		err := db.QueryRowContext(ctx, "select @a::int + @b::int", pgx.NamedArgs{"a": 1, "b": 2}).Scan(&n)
		return fmt.Sprint(n), err
	},
	"a named argument of database/sql": func(ctx context.Context, db *sql.DB) (string, error) {
		var n int
		return "", db.QueryRowContext(ctx, "select $1::int", sql.Named("a", 1)).Scan(&n)
	},
	"a wrong number of arguments": func(ctx context.Context, db *sql.DB) (string, error) {
		_, err := db.ExecContext(ctx, "select $1::int", 1, 2)
		return "", err
	},
	"an argument that cannot be encoded": func(ctx context.Context, db *sql.DB) (string, error) {
		_, err := db.ExecContext(ctx, "select $1::int", struct{ A chan int }{})
		return "", err
	},
	"a value that cannot be scanned": func(ctx context.Context, db *sql.DB) (string, error) {
		var n int
		return "", db.QueryRowContext(ctx, "select 'x'").Scan(&n)
	},
	"no row": func(ctx context.Context, db *sql.DB) (string, error) {
		return "", db.QueryRowContext(ctx, "select 1 where false").Scan(new(int))
	},
	"an error among the rows": func(ctx context.Context, db *sql.DB) (string, error) {
		rows, err := db.QueryContext(ctx, "select 1 / (3 - n) from generate_series(1, 5) n")
		if err != nil {
			return "", err
		}
		defer rows.Close()
		n := 0
		for rows.Next() {
			n++
		}
		return fmt.Sprint(n), rows.Err()
	},
	"prepared, twice at once": func(ctx context.Context, db *sql.DB) (string, error) {
		stmt, err := db.PrepareContext(ctx, "select $1::int * 2")
		if err != nil {
			return "", err
		}
		defer stmt.Close()
		a, err := stmt.QueryContext(ctx, 1)
		if err != nil {
			return "", err
		}
		defer a.Close()
		var n int
		err = stmt.QueryRowContext(ctx, 21).Scan(&n)
		return fmt.Sprint(n, a.Next()), err
	},
	"prepared, in a transaction": func(ctx context.Context, db *sql.DB) (string, error) {
		stmt, err := db.PrepareContext(ctx, "select current_setting('transaction_isolation') || $1::text")
		if err != nil {
			return "", err
		}
		defer stmt.Close()
		tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
		if err != nil {
			return "", err
		}
		defer tx.Rollback()
		var text string
		err = tx.StmtContext(ctx, stmt).QueryRowContext(ctx, "!").Scan(&text)
		return text, err
	},
	"a finished transaction": func(ctx context.Context, db *sql.DB) (string, error) {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return "", err
		}
		if err := tx.Rollback(); err != nil {
			return "", err
		}
		return fmt.Sprint(tx.Commit(), tx.Rollback()), tx.QueryRowContext(ctx, "select 1").Scan(new(int))
	},
	"a failed transaction": func(ctx context.Context, db *sql.DB) (string, error) {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return "", err
		}
		_, first := tx.ExecContext(ctx, "select 1/0")
		_, second := tx.ExecContext(ctx, "select 1")
		return fmt.Sprint(first, second), tx.Commit()
	},
	"a context that ends": func(ctx context.Context, db *sql.DB) (string, error) {
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		_, err := db.ExecContext(short, "select pg_sleep(60)")
		return fmt.Sprint(errors.Is(err, context.DeadlineExceeded)), db.PingContext(ctx)
	},
	"a transaction whose context ends": func(ctx context.Context, db *sql.DB) (string, error) {
		inner, cancel := context.WithCancel(ctx)
		tx, err := db.BeginTx(inner, nil)
		if err != nil {
			cancel()
			return "", err
		}
		cancel()
		err = tx.Commit() // database/sql may have rolled it back by then
		return fmt.Sprint(errors.Is(err, context.Canceled) || errors.Is(err, sql.ErrTxDone)), db.PingContext(ctx)
	},
	"a connection": func(ctx context.Context, db *sql.DB) (string, error) {
		conn, err := db.Conn(ctx)
		if err != nil {
			return "", err
		}
		defer conn.Close()
		if _, err := conn.ExecContext(ctx, "create temporary table parity (a int)"); err != nil {
			return "", err
		}
		if _, err := conn.ExecContext(ctx, "insert into parity values (1), (2)"); err != nil {
			return "", err
		}
		var n int
		err = conn.QueryRowContext(ctx, "select sum(a) from parity").Scan(&n)
		return fmt.Sprint(n), err
	},
	"a connection that says it is bad": func(ctx context.Context, db *sql.DB) (string, error) {
		conn, err := db.Conn(ctx)
		if err != nil {
			return "", err
		}
		bad := conn.Raw(func(any) error { return driver.ErrBadConn })
		_ = conn.Close()
		return fmt.Sprint(bad), db.PingContext(ctx)
	},
	"a closed connection": func(ctx context.Context, db *sql.DB) (string, error) {
		conn, err := db.Conn(ctx)
		if err != nil {
			return "", err
		}
		_ = conn.Close()
		return fmt.Sprint(conn.Close()), conn.PingContext(ctx)
	},
	"isolation levels": func(ctx context.Context, db *sql.DB) (string, error) {
		out := ""
		for level := sql.LevelDefault; level <= sql.LevelLinearizable; level++ {
			for _, readOnly := range []bool{false, true} {
				tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: level, ReadOnly: readOnly})
				if err != nil {
					out += fmt.Sprintf("%v is no level;", level)
					continue
				}
				var isolation, mode string
				err = tx.QueryRowContext(ctx, "select current_setting('transaction_isolation'), current_setting('transaction_read_only')").Scan(&isolation, &mode)
				_ = tx.Rollback()
				if err != nil {
					return out, err
				}
				out += isolation + " " + mode + ";"
			}
		}
		return out, nil
	},
}

type celsius float64

func (c *celsius) Scan(src any) error {
	f, ok := src.(float64)
	*c = celsius(f)
	if !ok {
		return fmt.Errorf("a %T", src)
	}
	return nil
}

func (c celsius) Value() (driver.Value, error) { return fmt.Sprint(float64(c)), nil }

// TestParity does the same with pgx/stdlib.
func TestParity(t *testing.T) {
	pool, db := open(t)
	plain, err := sql.Open("pgx", paused.Primary().DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	for name, do := range doings {
		want, wantErr := do(t.Context(), plain)
		for where, ctx := range map[string]context.Context{
			"no session": t.Context(), "a session": pgtide.NewSession(t.Context()), "the primary": pgtide.OnPrimary(t.Context()),
		} {
			got, gotErr := do(ctx, db)
			if got != want {
				t.Errorf("%s, %s:\n got %s\nwant %s as from pgx/stdlib", name, where, got, want)
			}
			same(t, name+", "+where, plainly(gotErr), plainly(wantErr))
		}
	}
	idle(t, pool)
}

// plainly takes the name of the package that found an error out of its text.
func plainly(err error) error {
	if err == nil || strings.TrimPrefix(err.Error(), "pgtidesql: ") == err.Error() {
		return err
	}
	return errors.New(strings.TrimPrefix(err.Error(), "pgtidesql: "))
}
