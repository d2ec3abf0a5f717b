package pgx

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
)

// TestWrites inserts a row in each way that pgx has, in each of its protocols,
// and reads it.
func TestWrites(t *testing.T) {
	c := paused.New(t, schema)
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			db := c.DB
			if mode != pgx.QueryExecModeCacheStatement {
				db = configure(t, c, func(config *pgxpool.Config) { config.ConnConfig.DefaultQueryExecMode = mode })
			}
			var written []string
			for way, write := range ways(db) {
				for where, ctx := range map[string]context.Context{"session": pgtide.NewSession(t.Context()), "no session": t.Context()} {
					text := fmt.Sprintf("%v, %s, %s", mode, way, where)
					if err := write(ctx, text); err != nil {
						t.Errorf("%s: %v", text, err)
						continue
					}
					written = append(written, text)
					rows, _ := db.Query(ctx, byText, text)
					if _, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[message]); err != nil {
						t.Errorf("%s: the read: %v; decisions: %v", text, err, pgtide.Explain(ctx))
					}
				}
			}
			c.OnReplica(t, "select text from message where text = any ($1)", written)
			ctx := pgtide.NewSession(t.Context())
			if err := db.QueryRow(ctx, "select id from message where likes = $1", 1).Scan(new(int64)); err != nil {
				t.Error(err)
			}
			paused.Served(t, ctx, pgtide.RoleReplica)
			idle(t, db)
		})
	}
}

// ways are functions that insert a row.
func ways(db *pgtide.DB) map[string]func(ctx context.Context, text string) error {
	return map[string]func(ctx context.Context, text string) error{
		"Exec": func(ctx context.Context, text string) error {
			_, err := db.Exec(ctx, insert, text)
			return err
		},
		"named arguments": func(ctx context.Context, text string) error {
			_, err := db.Exec(ctx, "insert into message (text) values (@text)", pgx.NamedArgs{"text": text})
			return err
		},
		"a query rewriter": func(ctx context.Context, text string) error {
			return db.QueryRow(ctx, "insert message", insertInto{"text": text}).Scan(new(int64))
		},
		"a query rewriter of what reads": func(ctx context.Context, text string) error {
			_, err := db.Exec(ctx, "select message", insertInto{"text": text})
			return err
		},
		"several statements": func(ctx context.Context, text string) error {
			_, err := db.Exec(ctx, "select 1; insert into message (text) values ('"+text+"'); select 2")
			return err
		},
		"QueryRow": func(ctx context.Context, text string) error {
			return db.QueryRow(ctx, insert+" returning id", text).Scan(new(int64))
		},
		"Query": func(ctx context.Context, text string) error {
			rows, _ := db.Query(ctx, insert+" returning *", text)
			_, err := pgx.CollectOneRow(rows, pgx.RowToStructByName[message])
			return err
		},
		"Query whose row nobody reads": func(ctx context.Context, text string) error {
			rows, err := db.Query(ctx, insert+" returning *", text)
			rows.Close()
			return err
		},
		"a common table expression": func(ctx context.Context, text string) error {
			rows, _ := db.Query(ctx, "with new as ("+insert+" returning *) select * from new", text)
			_, err := pgx.CollectOneRow(rows, pgx.RowToStructByName[message])
			return err
		},
		"merge": func(ctx context.Context, text string) error {
			_, err := db.Exec(ctx, "merge into message m using (select $1::text as text) n on n.text = m.text when not matched then insert (text) values (n.text)", text)
			return err
		},
		"explain analyze": func(ctx context.Context, text string) error {
			_, err := db.Exec(ctx, "explain (analyze) insert into message (text) values ('"+text+"')")
			return err
		},
		"a function that writes": func(ctx context.Context, text string) error {
			return db.QueryRow(ctx, "select write_message($1)", text).Scan(new(int64))
		},
		"a procedure": func(ctx context.Context, text string) error {
			_, err := db.Exec(ctx, "call post_message($1)", text)
			return err
		},
		"a batch": func(ctx context.Context, text string) error {
			b := &pgx.Batch{}
			b.Queue("select 1")
			b.Queue(insert+" returning id", text).QueryRow(func(row pgx.Row) error { return row.Scan(new(int64)) })
			return db.SendBatch(ctx, b).Close()
		},
		"a batch that calls a function": func(ctx context.Context, text string) error {
			b := &pgx.Batch{}
			b.Queue("select write_message($1)", text).Query(func(rows pgx.Rows) error {
				_, err := pgx.CollectOneRow(rows, pgx.RowTo[int64])
				return err
			})
			return db.SendBatch(ctx, b).Close()
		},
		"a batch that calls a function behind a read": func(ctx context.Context, text string) error {
			b := &pgx.Batch{}
			b.Queue("select 1")
			b.Queue("select write_message($1)", text)
			return db.SendBatch(ctx, b).Close()
		},
		"CopyFrom": func(ctx context.Context, text string) error {
			n, err := db.CopyFrom(ctx, pgx.Identifier{"message"}, []string{"text"}, pgx.CopyFromRows([][]any{{text}, {text + " too"}}))
			if err == nil && n != 2 {
				err = fmt.Errorf("%d rows, want 2", n)
			}
			return err
		},
		"BeginFunc": func(ctx context.Context, text string) error {
			return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, insert, text)
				return err
			})
		},
		"BeginTxFunc": func(ctx context.Context, text string) error {
			return pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) error {
				return tx.QueryRow(ctx, insert+" returning id", text).Scan(new(int64))
			})
		},
		"a savepoint": func(ctx context.Context, text string) error {
			return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
				return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
					_, err := tx.Exec(ctx, insert, text)
					return err
				})
			})
		},
		"a batch that begins a transaction": func(ctx context.Context, text string) error {
			b := &pgx.Batch{}
			b.BeginTx(pgx.TxOptions{})
			b.Queue(insert, text)
			results := db.SendBatch(ctx, b)
			if err := results.Close(); err != nil {
				return err
			}
			return results.Tx().Commit(ctx)
		},
		"a connection": func(ctx context.Context, text string) error {
			return acquired(ctx, db, func(conn *pgtide.Conn) error {
				_, err := conn.Exec(ctx, insert, text)
				return err
			})
		},
		"the connection below": func(ctx context.Context, text string) error {
			return acquired(ctx, db, func(conn *pgtide.Conn) error {
				return pgx.BeginFunc(ctx, conn.Conn(), func(tx pgx.Tx) error {
					_, err := tx.Exec(ctx, insert, text)
					return err
				})
			})
		},
		"pgconn below that": func(ctx context.Context, text string) error {
			return acquired(ctx, db, func(conn *pgtide.Conn) error {
				p := conn.Conn().PgConn().StartPipeline(ctx)
				p.SendQueryParams(insert, [][]byte{[]byte(text)}, nil, nil, nil)
				if err := p.Sync(); err != nil {
					return err
				}
				return p.Close()
			})
		},
	}
}

func acquired(ctx context.Context, db *pgtide.DB, f func(*pgtide.Conn) error) error {
	conn, err := db.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return f(conn)
}

// insertInto is a QueryRewriter that writes the whole statement: its text is
// a word and the name of a table.
type insertInto map[string]any

// RewriteQuery implements [pgx.QueryRewriter].
func (columns insertInto) RewriteQuery(_ context.Context, _ *pgx.Conn, sql string, _ []any) (string, []any, error) {
	var word, table string
	if _, err := fmt.Sscan(sql, &word, &table); err != nil {
		return "", nil, err
	}
	names, values, args := "", "", []any(nil)
	for name, value := range columns {
		args = append(args, value)
		names += ", " + pgx.Identifier{name}.Sanitize()
		values += fmt.Sprintf(", $%d", len(args))
	}
	return fmt.Sprintf("insert into %s (%s) values (%s) returning id", pgx.Identifier{table}.Sanitize(), names[2:], values[2:]), args, nil
}
