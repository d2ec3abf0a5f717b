package pgtidetest

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidesql"
)

// textRows are rows as text, whatever their types.
func textRows(rows pgx.Rows, err error) ([][]string, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all [][]string
	for rows.Next() {
		var row []string
		for _, value := range rows.RawValues() {
			row = append(row, string(value))
		}
		all = append(all, row)
	}
	return all, rows.Err()
}

// pgxCalls is what a pgtide.DB, a pool and a pgx.Tx have.
type pgxCalls interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// onPgx makes Statements of them.
type onPgx struct{ pgxCalls }

func (p onPgx) Exec(ctx context.Context, sql string, args ...any) error {
	_, err := p.pgxCalls.Exec(ctx, sql, args...)
	return err
}

func (p onPgx) Query(ctx context.Context, sql string, args ...any) ([][]string, error) {
	return textRows(p.pgxCalls.Query(ctx, sql, args...))
}

// sessions are those of pgtide, for every front on top of it.
type sessions struct{}

func (sessions) Session(ctx context.Context, token string) (context.Context, error) {
	ctx = pgtide.WithConsistency(pgtide.NewSession(ctx), pgtide.Session)
	if token == "" {
		return ctx, nil
	}
	var t pgtide.Token
	err := t.UnmarshalText([]byte(token))
	return pgtide.WithToken(ctx, t), err
}

func (sessions) Token(ctx context.Context) (string, error) {
	t, _ := pgtide.TokenFrom(ctx)
	text, err := t.MarshalText()
	return string(text), err
}

// tideFront is a pgtide.DB.
type tideFront struct {
	onPgx
	sessions
	db *pgtide.DB
}

func (f tideFront) Tx(ctx context.Context, readOnly bool, do func(context.Context, Statements) error) error {
	o := pgx.TxOptions{}
	if readOnly {
		o.AccessMode = pgx.ReadOnly
	}
	return pgx.BeginTxFunc(ctx, f.db, o, func(tx pgx.Tx) error { return do(ctx, onPgx{tx}) })
}

func openTide(t testing.TB, tide *Tide) Front {
	db := tide.Open(pgtide.Options{})
	return tideFront{onPgx: onPgx{db}, db: db}
}

func TestConformance(t *testing.T) {
	Conformance(t, openTide)
}

// sqlCalls is what a *sql.DB and a *sql.Tx have.
type sqlCalls interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// onSQL makes Statements of them.
type onSQL struct{ sqlCalls }

func (s onSQL) Exec(ctx context.Context, query string, args ...any) error {
	_, err := s.ExecContext(ctx, query, args...)
	return err
}

func (s onSQL) Query(ctx context.Context, query string, args ...any) (all [][]string, err error) {
	rows, err := s.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var value sql.NullString // the checks ask for one column
		if err := rows.Scan(&value); err != nil {
			return nil, err
		}
		all = append(all, []string{value.String})
	}
	return all, rows.Err()
}

// sqlFront is a *sql.DB of package pgtidesql.
type sqlFront struct {
	onSQL
	sessions
	db *sql.DB
}

func (f sqlFront) Tx(ctx context.Context, readOnly bool, do func(context.Context, Statements) error) error {
	tx, err := f.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: readOnly})
	if err != nil {
		return err
	}
	if err := do(ctx, onSQL{tx}); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func TestConformanceOfSQL(t *testing.T) {
	Conformance(t, func(t testing.TB, tide *Tide) Front {
		db := pgtidesql.Open(tide.Open(pgtide.Options{}))
		t.Cleanup(func() { db.Close() })
		return sqlFront{onSQL: onSQL{db}, db: db}
	})
}

// naiveFront sends what begins with "select" to the replicas in turn.
type naiveFront struct {
	primary  *pgxpool.Pool
	replicas []*pgxpool.Pool
	turn     *atomic.Uint32
}

func openNaiveFront(t testing.TB, tide *Tide) Front {
	open := func(node string) *pgxpool.Pool {
		pool, err := pgxpool.New(t.Context(), tide.DSN(node))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		return pool
	}
	f := naiveFront{primary: open(tide.Primary()), turn: new(atomic.Uint32)}
	for _, node := range tide.Replicas() {
		f.replicas = append(f.replicas, open(node))
	}
	return f
}

func (f naiveFront) replica() *pgxpool.Pool { return f.replicas[int(f.turn.Add(1))%len(f.replicas)] }

func (f naiveFront) Exec(ctx context.Context, sql string, args ...any) error {
	return onPgx{f.primary}.Exec(ctx, sql, args...)
}

func (f naiveFront) Query(ctx context.Context, sql string, args ...any) ([][]string, error) {
	if strings.HasPrefix(sql, "select") {
		return onPgx{f.replica()}.Query(ctx, sql, args...)
	}
	return onPgx{f.primary}.Query(ctx, sql, args...)
}

func (f naiveFront) Session(ctx context.Context, _ string) (context.Context, error) { return ctx, nil }
func (f naiveFront) Token(context.Context) (string, error)                          { return "", nil }

func (f naiveFront) Tx(ctx context.Context, readOnly bool, do func(context.Context, Statements) error) error {
	pool, o := f.primary, pgx.TxOptions{}
	if readOnly {
		pool, o.AccessMode = f.replica(), pgx.ReadOnly
	}
	return pgx.BeginTxFunc(ctx, pool, o, func(tx pgx.Tx) error { return do(ctx, onPgx{tx}) })
}

// timidFront sends everything to the primary.
type timidFront struct{ naiveFront }

func (f timidFront) Query(ctx context.Context, sql string, args ...any) ([][]string, error) {
	return onPgx{f.primary}.Query(ctx, sql, args...)
}

func (f timidFront) Tx(ctx context.Context, readOnly bool, do func(context.Context, Statements) error) error {
	o := pgx.TxOptions{}
	if readOnly {
		o.AccessMode = pgx.ReadOnly
	}
	return pgx.BeginTxFunc(ctx, f.primary, o, func(tx pgx.Tx) error { return do(ctx, onPgx{tx}) })
}

// eagerFront makes again what has failed.
type eagerFront struct{ Front }

func (f eagerFront) Exec(ctx context.Context, sql string, args ...any) error {
	err := f.Front.Exec(ctx, sql, args...)
	if err != nil {
		err = f.Front.Exec(ctx, sql, args...)
	}
	return err
}

// sloppyFront has no transactions, and errors of its own.
type sloppyFront struct{ Front }

func (f sloppyFront) Exec(ctx context.Context, sql string, args ...any) error {
	if err := f.Front.Exec(ctx, sql, args...); err != nil {
		return errors.New(err.Error())
	}
	return nil
}

func (f sloppyFront) Tx(ctx context.Context, _ bool, do func(context.Context, Statements) error) error {
	return do(ctx, f)
}

// Each check fails some front that is wrong, and only those: one that could not
// fail would prove nothing.
func TestConformanceBites(t *testing.T) {
	t.Setenv(EnvKeep, "0")
	var mu sync.Mutex
	failed := map[string]bool{} // guarded by mu
	t.Run("fronts", func(t *testing.T) {
		for name, c := range map[string]struct {
			open func(testing.TB, *Tide) Front
			want []string
		}{
			"naive": {openNaiveFront, []string{
				"a process reads its writes", "commits", "goroutines", "locks", "monotonic reads",
				"read your writes", "read-only transactions", "reads that write", "tokens",
			}},
			"timid": {func(t testing.TB, tide *Tide) Front {
				return timidFront{openNaiveFront(t, tide).(naiveFront)}
			}, []string{"reads go to replicas"}},
			"eager": {func(t testing.TB, tide *Tide) Front { return eagerFront{openTide(t, tide)} }, []string{"a write is not run twice"}},
			"sloppy": {func(t testing.TB, tide *Tide) Front { return sloppyFront{openTide(t, tide)} }, []string{
				"errors", "read-only transactions", "transactions",
			}},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var got, said []string
				for _, check := range conformanceChecks {
					r := newRun(t)
					r.do(func() { check.run(r, c.open) })
					if complaint := r.complaint(); complaint != "" {
						got = append(got, check.name)
						said = append(said, check.name+": "+complaint)
					}
				}
				slices.Sort(got)
				if !slices.Equal(got, c.want) {
					t.Errorf("the front fails %q, want %q:\n%s", got, c.want, strings.Join(said, "\n"))
				}
				mu.Lock()
				defer mu.Unlock()
				for _, name := range got {
					failed[name] = true
				}
			})
		}
	})
	for _, check := range conformanceChecks {
		if !failed[check.name] {
			t.Errorf("no front fails %q", check.name)
		}
	}
}
