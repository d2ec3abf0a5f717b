package main

import (
	"context"
	"database/sql"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/pgtide/pgtide"
)

// sqlBudget bounds what a *sql.DB may cost more than that of pgx/stdlib.
const sqlBudget = 1.05

// concurrency is how many goroutines call at once.
var concurrency = []int{1, 4, 16, 64}

const (
	selectOne  = "select v from bench where id = $1"
	selectMany = "select id, v from bench where id <= 100"
	insertOne  = "insert into bench (v) values ($1)"
)

// handles are the sides of comparisons under database/sql, all on one node.
type handles struct {
	ours, theirs *sql.DB
	again        *sql.DB // the same as theirs, for the control
	pooled       *sql.DB // pgx/stdlib over a pool of its own, as pgtide is
	session      context.Context
	closers
}

// closers run in turn, the last one first.
type closers []func()

func (c *closers) add(f func()) { *c = append(*c, f) }

func (c *closers) close() {
	for i := len(*c) - 1; i >= 0; i-- {
		(*c)[i]()
	}
	*c = nil
}

// open connects all sides to node, which is where pgtide sends what is measured.
func (s servers) open(ctx context.Context, node string) (h *handles, err error) {
	h = &handles{session: pgtide.NewSession(ctx)}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	ours, done, err := s.pgtideSQL(ctx)
	if err != nil {
		return nil, err
	}
	h.ours = ours
	h.add(done)
	for _, db := range []**sql.DB{&h.theirs, &h.again} {
		if *db, err = s.stdlib(node); err != nil {
			return nil, err
		}
		h.add(func() { (*db).Close() })
	}
	config, err := pgxpool.ParseConfig(node)
	if err != nil {
		return nil, err
	}
	if err := s.configure("", config); err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	h.add(pool.Close)
	h.pooled = stdlib.OpenDBFromPool(pool)
	h.add(func() { h.pooled.Close() })
	return h, nil
}

// sqlCases makes the comparisons between h's sides, for each number of
// goroutines at once.
type sqlCases func(ctx context.Context, h *handles, goroutines []int) ([]comparison, error)

// sqlClient measures the client's part of calls, with answers replayed: what a
// busy machine hides in a whole call shows here.
func sqlClient(ctx context.Context, r *report, s servers) error {
	s.replay = &dialer{made: &sync.Map{}}
	if err := sqlCalls(ctx, r, s, s.replica, sqlReads); err != nil {
		return err
	}
	return sqlCalls(ctx, r, s, s.primary, sqlWrites)
}

// sqlCalls compares calls on node with those of pgx/stdlib.
func sqlCalls(ctx context.Context, r *report, s servers, node string, cases sqlCases) error {
	prefix, goroutines := "sql: ", concurrency
	if s.replay != nil {
		prefix, goroutines = "client: ", concurrency[:1]
	}
	order, found, err := inBlocks(ctx, r, blocks, prefix+"calls on one node", func(ctx context.Context) ([]comparison, func(), error) {
		h, err := s.open(ctx, node)
		if err != nil {
			return nil, nil, err
		}
		c, err := cases(ctx, h, goroutines)
		if err != nil {
			h.close()
			return nil, nil, err
		}
		return c, h.close, nil
	})
	if err != nil {
		return err
	}
	for _, c := range order {
		times := found[c.name]
		c.name = prefix + c.name
		if s.replay != nil {
			c.budget = 0 // a part of a call has none of its own
		}
		times.add(r, c, "stdlib")
	}
	return nil
}

// at makes a comparison of n calls a round, by so many goroutines.
func at(goroutines, n int, name string, ours, theirs func(context.Context) error) comparison {
	if goroutines > 1 {
		name += fmt.Sprintf(", %d at once", goroutines)
	}
	return comparison{name, n, sqlBudget, spread(goroutines, n, ours), spread(goroutines, n, theirs)}
}

// sqlReads are the comparisons on a replica.
func sqlReads(ctx context.Context, h *handles, goroutines []int) ([]comparison, error) {
	ours, err := prepared(ctx, h.ours)
	if err != nil {
		return nil, err
	}
	theirs, err := prepared(ctx, h.theirs)
	if err != nil {
		return nil, err
	}
	h.add(func() { ours.Close(); theirs.Close() })
	var out []comparison
	for _, n := range goroutines {
		out = append(out,
			at(n, 128, "QueryRow outside a session", readOne(h.ours), readOne(h.theirs)),
			at(n, 128, "QueryRow in a session", in(h.session, readOne(h.ours)), readOne(h.theirs)),
			at(n, 64, "Query of 100 rows", readMany(h.ours), readMany(h.theirs)),
			at(n, 128, "prepared QueryRow", readPrepared(ours), readPrepared(theirs)),
			at(n, 128, "control, QueryRow of stdlib", readOne(h.again), readOne(h.theirs)),
		)
	}
	pooled := at(1, 128, "QueryRow of stdlib over pgxpool", readOne(h.pooled), readOne(h.theirs))
	pooled.budget = 0
	return append(out, pooled), nil
}

// sqlWrites are the comparisons on the primary.
func sqlWrites(_ context.Context, h *handles, goroutines []int) ([]comparison, error) {
	var out []comparison
	for _, n := range goroutines {
		out = append(out,
			at(n, 128, "Exec", write(h.ours), write(h.theirs)),
			at(n, 64, "transaction of two statements", transact(h.ours), transact(h.theirs)),
			at(n, 64, "control, transaction of stdlib", transact(h.again), transact(h.theirs)),
		)
	}
	return out, nil
}

// in makes call in a context of its own.
func in(ctx context.Context, call func(context.Context) error) func(context.Context) error {
	return func(context.Context) error { return call(ctx) }
}

func readOne(db *sql.DB) func(context.Context) error {
	return func(ctx context.Context) error {
		var v string
		return db.QueryRowContext(ctx, selectOne, 1).Scan(&v)
	}
}

func prepared(ctx context.Context, db *sql.DB) (*sql.Stmt, error) {
	return db.PrepareContext(ctx, selectOne)
}

func readPrepared(s *sql.Stmt) func(context.Context) error {
	return func(ctx context.Context) error {
		var v string
		return s.QueryRowContext(ctx, 1).Scan(&v)
	}
}

func readMany(db *sql.DB) func(context.Context) error {
	return func(ctx context.Context) error {
		rows, err := db.QueryContext(ctx, selectMany)
		if err != nil {
			return err
		}
		defer rows.Close()
		n := 0
		for rows.Next() {
			var id int64
			var v string
			if err := rows.Scan(&id, &v); err != nil {
				return err
			}
			n++
		}
		if err := rows.Err(); err != nil {
			return err
		}
		if n != 100 {
			return fmt.Errorf("%d rows came, want 100", n)
		}
		return nil
	}
}

func write(db *sql.DB) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, insertOne, "x")
		return err
	}
}

func transact(db *sql.DB) func(context.Context) error {
	return func(ctx context.Context) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		var v string
		if err := tx.QueryRowContext(ctx, selectOne, 1).Scan(&v); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, insertOne, "x"); err != nil {
			return err
		}
		return tx.Commit()
	}
}
