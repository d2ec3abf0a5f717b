package pgtide_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

// guarded are calls that write, or may.
var guarded = map[string]func(context.Context, *pgtide.DB) error{
	"Exec": func(ctx context.Context, db *pgtide.DB) error {
		_, err := db.Exec(ctx, "update message set text = text where false")
		return err
	},
	"QueryRow": func(ctx context.Context, db *pgtide.DB) error {
		return db.QueryRow(ctx, "insert into message (text) values ('guarded') returning id").Scan(new(int64))
	},
	"a locking read": func(ctx context.Context, db *pgtide.DB) error {
		_, err := db.Exec(ctx, "select 1 from message for update")
		return err
	},
	"a function that writes": func(ctx context.Context, db *pgtide.DB) error {
		// Only a replica finds it out, and only once.
		_, err := db.Exec(pgtide.WithConsistency(ctx, pgtide.Eventual), fmt.Sprintf("select write_message('guarded') /* %p */", &ctx))
		return err
	},
	"a batch": func(ctx context.Context, db *pgtide.DB) error {
		b := &pgx.Batch{}
		b.Queue("set local work_mem = '1MB'")
		b.Queue("delete from message where false")
		return db.SendBatch(ctx, b).Close()
	},
	"COPY": func(ctx context.Context, db *pgtide.DB) error {
		_, err := db.CopyFrom(ctx, pgx.Identifier{"message"}, []string{"text"}, pgx.CopyFromRows(nil))
		return err
	},
	"a transaction": func(ctx context.Context, db *pgtide.DB) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			if err := tx.QueryRow(ctx, "select 1").Scan(new(int)); err != nil {
				return fmt.Errorf("read: %v", err)
			}
			_, err := tx.Exec(ctx, "delete from message where false")
			return err
		})
	},
	"a batch in a transaction": func(ctx context.Context, db *pgtide.DB) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			b := &pgx.Batch{}
			b.Queue("delete from message where false")
			return tx.SendBatch(ctx, b).Close()
		})
	},
	"a query in a transaction": func(ctx context.Context, db *pgtide.DB) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			rows, _ := tx.Query(ctx, "delete from message where false returning id")
			rows.Close()
			return rows.Err()
		})
	},
	"COPY in a savepoint": func(ctx context.Context, db *pgtide.DB) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
				_, err := tx.CopyFrom(ctx, pgx.Identifier{"message"}, []string{"text"}, pgx.CopyFromRows(nil))
				return err
			})
		})
	},
	"an acquired connection": func(ctx context.Context, db *pgtide.DB) error {
		return held(ctx, db, func(c *pgtide.Conn) error {
			return c.QueryRow(ctx, "insert into message (text) values ('guarded') returning id").Scan(new(int64))
		})
	},
	"COPY on an acquired connection": func(ctx context.Context, db *pgtide.DB) error {
		return held(ctx, db, func(c *pgtide.Conn) error {
			_, err := c.CopyFrom(ctx, pgx.Identifier{"message"}, []string{"text"}, pgx.CopyFromRows(nil))
			return err
		})
	},
	"what is not surely a read": func(ctx context.Context, db *pgtide.DB) error {
		_, err := db.Exec(ctx, "select txid_current_snapshot()")
		return err
	},
}

// harmless are calls that no guard minds.
var harmless = map[string]func(context.Context, *pgtide.DB) error{
	"a read": func(ctx context.Context, db *pgtide.DB) error {
		return db.QueryRow(ctx, "select count(*) from message").Scan(new(int))
	},
	"a transaction that may write and reads": func(ctx context.Context, db *pgtide.DB) error {
		return pgx.BeginTxFunc(ctx, db, pgx.TxOptions{AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, "select 1").Scan(new(int))
		})
	},
	"a write that is allowed, in a transaction begun where none is": func(ctx context.Context, db *pgtide.DB) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			_, err := tx.Exec(pgtide.AllowWrites(ctx), "delete from message where false")
			return err
		})
	},
	"a setting of a transaction that reads": func(ctx context.Context, db *pgtide.DB) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "set local work_mem = '1MB'"); err != nil {
				return err
			}
			return tx.QueryRow(ctx, "select 1").Scan(new(int))
		})
	},
}

func TestGuardRefusesWrites(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func() (*pgtide.DB, context.Context){
		"ReadOnly": func() (*pgtide.DB, context.Context) {
			return open(t, shared, pgtide.Options{}), pgtide.ReadOnly(t.Context(), pgtide.GuardError)
		},
		"Options.Guard": func() (*pgtide.DB, context.Context) {
			return open(t, shared, pgtide.Options{Guard: pgtide.GuardError}), t.Context()
		},
	} {
		db, ctx := open()
		for what, write := range guarded {
			err := write(ctx, db)
			var refused *pgtide.WriteGuardError
			if !errors.Is(err, pgtide.ErrWriteNotAllowed) || !errors.As(err, &refused) {
				t.Errorf("%s, %s: %v, want ErrWriteNotAllowed", name, what, err)
				continue
			}
			if !strings.Contains(refused.Caller, "guard_test.go:") && !strings.Contains(refused.Caller, "leaves_test.go:") {
				t.Errorf("%s, %s: the caller is said to be %s", name, what, refused.Caller)
			}
			if err := write(pgtide.AllowWrites(ctx), db); err != nil {
				t.Errorf("%s, %s, allowed: %v", name, what, err)
			}
		}
		for what, read := range harmless {
			if err := read(ctx, db); err != nil {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
		if n := db.Stat().Guarded; n != int64(len(guarded)) {
			t.Errorf("%s: %d writes counted, want %d", name, n, len(guarded))
		}
	}
}

// TestGuardSeesWhatIsRewritten has the texts of reads, and writes in their place.
func TestGuardSeesWhatIsRewritten(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{Guard: pgtide.GuardError})
	const insert = instead("insert into message (text) values ('guarded')")
	err := pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), "select 1", insert)
		return err
	})
	if !errors.Is(err, pgtide.ErrWriteNotAllowed) {
		t.Errorf("in a transaction: %v, want ErrWriteNotAllowed", err)
	}
	err = held(t.Context(), db, func(c *pgtide.Conn) error {
		return c.QueryRow(t.Context(), "select 1", insert).Scan(new(int))
	})
	if !errors.Is(err, pgtide.ErrWriteNotAllowed) {
		t.Errorf("on a connection: %v, want ErrWriteNotAllowed", err)
	}
}

func TestGuardNamesTheLine(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{Guard: pgtide.GuardError})
	_, file, line, _ := runtime.Caller(0)
	_, err := db.Exec(t.Context(), "delete from message where false")
	want := fmt.Sprintf("write is not allowed here: delete at %s:%d: do it within pgtide.AllowWrites", file, line+1)
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestGuardTells(t *testing.T) {
	t.Parallel()
	type key struct{}
	var told []string
	db := open(t, shared, pgtide.Options{Hooks: pgtide.Hooks{OnGuard: func(ctx context.Context, err *pgtide.WriteGuardError) {
		if ctx.Value(key{}) == nil {
			t.Error("the hook did not get the caller's context")
		}
		told = append(told, err.What)
	}}})
	ctx := pgtide.ReadOnly(pgtide.NewSession(context.WithValue(t.Context(), key{}, 1)), pgtide.GuardLog)
	id := insert(t, ctx, db, "told")
	if text := read(t, ctx, db, id); text != "told" {
		t.Errorf("the session reads %q", text)
	}
	if len(told) != 1 || told[0] != "insert" {
		t.Errorf("told of %q, want the insert", told)
	}
}

func TestGuardOfReadsAtThePrimary(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{Guard: pgtide.GuardError, GuardReads: true})
	read := func(ctx context.Context) error { return db.QueryRow(ctx, "select 1").Scan(new(int)) }
	for what, ctx := range map[string]context.Context{
		"OnPrimary": pgtide.OnPrimary(t.Context()),
		"Strong":    pgtide.WithConsistency(t.Context(), pgtide.Strong),
	} {
		if err := read(ctx); !errors.Is(err, pgtide.ErrWriteNotAllowed) {
			t.Errorf("%s: %v, want ErrWriteNotAllowed", what, err)
		}
		if err := read(pgtide.AllowWrites(ctx)); err != nil {
			t.Errorf("%s, allowed: %v", what, err)
		}
	}
	if err := pgx.BeginFunc(t.Context(), db, func(pgx.Tx) error { return nil }); !errors.Is(err, pgtide.ErrWriteNotAllowed) {
		t.Errorf("a transaction that may write: %v, want ErrWriteNotAllowed", err)
	}
	if err := pgx.BeginTxFunc(t.Context(), db, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(pgx.Tx) error { return nil }); err != nil {
		t.Errorf("a read-only transaction: %v", err)
	}
	if err := read(t.Context()); err != nil {
		t.Errorf("a read of a replica: %v", err)
	}
	if err := db.Ping(t.Context()); err != nil {
		t.Errorf("Ping: %v", err)
	}
	if _, err := db.CurrentToken(t.Context()); err != nil {
		t.Errorf("CurrentToken: %v", err)
	}
	// What goes to the primary because replicas lag is not the program's doing.
	ctx := pgtide.AllowWrites(t.Context())
	insert(t, ctx, db, "just written")
	if err := read(t.Context()); err != nil {
		t.Errorf("a read right after a write: %v", err)
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 2})
	all := nodes(c)
	for i := range all[1:] {
		all[i+1].Groups = []string{fmt.Sprint("only ", i+1), "both"}
	}
	db := open(t, c, pgtide.Options{Nodes: all, GroupFallback: pgtide.FallbackNone, WaitBudget: -1})
	for i := range 2 {
		name := fmt.Sprint("only ", i+1)
		ctx := pgtide.OnGroup(pgtide.WithNote(pgtide.NewSession(t.Context()), "a report"), name)
		for range 5 {
			if err := db.QueryRow(ctx, "select 1").Scan(new(int)); err != nil {
				t.Fatal(err)
			}
			if d := last(t, ctx); d.Node != all[i+1].Name || d.Note != "a report" || !strings.HasSuffix(d.String(), "(a report)") {
				t.Errorf("group %q: %+v, want node %s and the note", name, d, all[i+1].Name)
			}
		}
		if !db.HasGroup(name) {
			t.Errorf("HasGroup(%q) is false", name)
		}
	}
	if err := db.QueryRow(pgtide.OnGroup(t.Context(), "none"), "select 1").Scan(new(int)); !errors.Is(err, pgtide.ErrUnknownGroup) || !strings.Contains(err.Error(), "both, only 1, only 2") {
		t.Errorf("an unknown group: %v, want ErrUnknownGroup and the names there are", err)
	}
	if err := db.QueryRow(pgtide.Anywhere(pgtide.OnGroup(t.Context(), "none")), "select 1").Scan(new(int)); err != nil {
		t.Errorf("Anywhere inside OnGroup: %v", err)
	}
	if err := db.QueryRow(pgtide.OnNode(pgtide.OnGroup(t.Context(), "none"), all[1].Name), "select 1").Scan(new(int)); err != nil {
		t.Errorf("OnNode inside OnGroup: %v", err)
	}
	if err := db.QueryRow(pgtide.OnGroup(t.Context(), "none"), "/* pgtide: replica */ select 1").Scan(new(int)); err != nil {
		t.Errorf("a hint inside OnGroup: %v", err)
	}
	pause(t, c)
	ctx := pgtide.NewSession(t.Context())
	insert(t, ctx, db, "unseen")
	token, _ := pgtide.TokenFrom(ctx)
	if db.Settled(token) {
		t.Error("Settled while no replica replays")
	}
	if err := db.QueryRow(pgtide.OnGroup(ctx, "both"), "select 1").Scan(new(int)); !errors.Is(err, pgtide.ErrNoFreshReplica) || !strings.Contains(err.Error(), `"both"`) {
		t.Errorf("a group that lags: %v, want ErrNoFreshReplica and its name", err)
	}
	for _, r := range c.Replicas() {
		if err := r.ResumeReplay(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "all replicas to be seen with the write", func() bool { return db.Settled(token) })
	text, _ := token.MarshalText()
	b, _ := base64.RawURLEncoding.DecodeString(string(text))
	b[9] ^= 1 // in the system identifier
	var foreign pgtide.Token
	if err := foreign.UnmarshalText([]byte(base64.RawURLEncoding.EncodeToString(b))); err != nil || db.Settled(foreign) {
		t.Errorf("a token of another cluster is Settled (%v)", err)
	}
	if err := c.Replicas()[0].Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the killed replica to count as one that may come back without it", func() bool { return !db.Settled(token) })
	if !db.Writable() {
		t.Error("not writable with a primary up")
	}
	if err := c.Primary().Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the loss of the primary to be seen", func() bool { return !db.Writable() })
}
