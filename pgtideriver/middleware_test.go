package pgtideriver_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtideriver"
)

// queue returns the name of the queue of a test's own. River's names are short.
func queue(t *testing.T) string {
	h := fnv.New64a()
	h.Write([]byte(t.Name()))
	return fmt.Sprintf("q%x", h.Sum64())
}

func (p process) add(t *testing.T, ctx context.Context, args lookArgs, o river.InsertOpts) bool {
	t.Helper()
	o.Queue = queue(t)
	result, err := p.adder(t).Insert(ctx, args, &o)
	if err != nil {
		t.Fatal(err)
	}
	return !result.UniqueSkippedAsDuplicate
}

var (
	atPrimary = look{notes: 1, attempt: 1, at: pgtide.RolePrimary}
	atReplica = look{notes: 1, attempt: 1, at: pgtide.RoleReplica}
	missed    = look{notes: 0, attempt: 1, at: pgtide.RoleReplica}
	noWait    = pgtideriver.Options{OnBehind: pgtideriver.Primary}
	// briefly is long enough to learn what replicas have, on a busy machine too.
	briefly = pgtideriver.Options{WaitBudget: 2 * time.Second}
)

func TestMiddleware(t *testing.T) {
	c := startCluster(t)
	p := startProcess(t, c)

	// In each of these cases the control, a worker without the middleware, misses
	// the note on a replica.
	for name, add := range map[string]func(t *testing.T, args lookArgs){
		"added in the transaction": func(t *testing.T, args lookArgs) {
			adder := p.adder(t)
			err := pgx.BeginFunc(t.Context(), p.db, func(tx pgx.Tx) error {
				if _, err := adder.InsertTx(t.Context(), tx, args, &river.InsertOpts{Queue: queue(t)}); err != nil {
					return err
				}
				_, err := tx.Exec(t.Context(), "insert into note values ($1)", args.Note)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		},
		"added in the transaction of a session that has a token": func(t *testing.T, args lookArgs) {
			ctx := pgtide.NewSession(t.Context())
			p.write(t, ctx, "another note")
			adder := p.adder(t)
			err := pgx.BeginFunc(ctx, p.db, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, "insert into note values ($1)", args.Note); err != nil {
					return err
				}
				_, err := adder.InsertTx(ctx, tx, args, &river.InsertOpts{Queue: queue(t)})
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		},
		"added after the write of a session": func(t *testing.T, args lookArgs) {
			ctx := pgtide.NewSession(t.Context())
			p.write(t, ctx, args.Note)
			p.add(t, ctx, args, river.InsertOpts{})
		},
		"added after the write of a session, committed": func(t *testing.T, args lookArgs) {
			ctx := pgtide.NewSession(t.Context())
			p.write(t, ctx, args.Note)
			p.add(t, pgtideriver.Committed(ctx), args, river.InsertOpts{})
		},
		"added outside a session": func(t *testing.T, args lookArgs) {
			p.write(t, t.Context(), args.Note)
			p.add(t, pgtideriver.Committed(t.Context()), args, river.InsertOpts{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Run("with", func(t *testing.T) {
				w := work(t, c, &noWait)
				add(t, lookArgs{Note: t.Name()})
				w.expect(t, atPrimary)
			})
			t.Run("without", func(t *testing.T) {
				w := work(t, c, nil)
				add(t, lookArgs{Note: t.Name()})
				w.expect(t, missed)
			})
		})
	}

	t.Run("a committed job reads on a replica that has no more", func(t *testing.T) {
		ctx, w := pgtide.NewSession(t.Context()), work(t, c, &briefly)
		p.write(t, ctx, t.Name())
		c.catchUp(t)
		args := lookArgs{Note: t.Name()}
		p.add(t, pgtideriver.Committed(ctx), args, river.InsertOpts{})
		w.expect(t, atReplica)
		p.add(t, ctx, args, river.InsertOpts{}) // the control: that the job was added is newer
		w.expect(t, atPrimary)
	})

	// What an attempt has written, the next one must see, or it does it twice.
	for _, once := range []string{"fail", "snooze"} {
		t.Run("a committed job sees its attempt before, which was told to "+once, func(t *testing.T) {
			ctx, w := pgtide.NewSession(t.Context()), work(t, c, &briefly)
			p.write(t, ctx, t.Name())
			c.catchUp(t)
			p.add(t, pgtideriver.Committed(ctx), lookArgs{Note: t.Name(), Once: once}, river.InsertOpts{})
			w.expect(t, atReplica)
			want := look{notes: 2, attempt: 2, at: pgtide.RolePrimary}
			if once == "snooze" {
				want.attempt = 1
			}
			w.expect(t, want)
		})
	}

	t.Run("a committed job sees its attempt before, which the end of its program has interrupted", func(t *testing.T) {
		ctx, w := pgtide.NewSession(t.Context()), work(t, c, &briefly)
		p.write(t, ctx, t.Name())
		c.catchUp(t)
		p.add(t, pgtideriver.Committed(ctx), lookArgs{Note: t.Name(), Once: "stop"}, river.InsertOpts{})
		select {
		case <-w.working:
		case <-time.After(20 * time.Second):
			t.Fatal("the job is not worked within 20 s")
		}
		w.stop()
		w.expect(t, atReplica)
		work(t, c, &briefly).expect(t, look{notes: 2, attempt: 1, at: pgtide.RolePrimary})
	})

	t.Run("a unique job sees what is written when it is added again", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		p.write(t, ctx, "another note")
		c.catchUp(t)
		unique := river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true}}
		for i := range 2 {
			if added := p.add(t, pgtideriver.Committed(ctx), lookArgs{Note: t.Name()}, unique); added != (i == 0) {
				t.Errorf("job %d is added: %v", i, added)
			}
			if i == 0 {
				p.write(t, ctx, t.Name())
			}
		}
		work(t, c, &noWait).expect(t, atPrimary)
	})

	t.Run("a job that is added with the metadata of another sees what is committed", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		p.write(t, ctx, "another note")
		c.catchUp(t)
		result, err := p.adder(t).Insert(pgtideriver.Committed(ctx), lookArgs{}, &river.InsertOpts{Queue: "nobody"})
		if err != nil {
			t.Fatal(err)
		}
		p.write(t, t.Context(), t.Name())
		p.add(t, t.Context(), lookArgs{Note: t.Name()}, river.InsertOpts{Metadata: result.Job.Metadata})
		work(t, c, &noWait).expect(t, atPrimary)
	})
}

func TestWait(t *testing.T) {
	c := startCluster(t)
	p := startProcess(t, c)
	t.Run("until a replica has it", func(t *testing.T) {
		w := work(t, c, &pgtideriver.Options{WaitBudget: 20 * time.Second})
		p.write(t, t.Context(), t.Name())
		p.add(t, t.Context(), lookArgs{Note: t.Name()}, river.InsertOpts{})
		// It is being worked, and waits. Nothing tells that it is.
		const running = "select count(*) from river_job where queue = $1 and state = 'running'"
		for n, deadline := 0, time.Now().Add(10*time.Second); n == 0; <-time.After(5 * time.Millisecond) {
			if err := p.db.QueryRow(pgtide.OnPrimary(t.Context()), running, queue(t)).Scan(&n); err != nil {
				t.Fatal(err)
			}
			if time.Now().After(deadline) {
				t.Fatal("the job is not worked after 10 s")
			}
		}
		// One replica is enough.
		if err := c.Replicas()[1].ResumeReplay(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.expect(t, atReplica)
		c.catchUp(t)
	})
	t.Run("until the budget is spent", func(t *testing.T) {
		w := work(t, c, &pgtideriver.Options{WaitBudget: 50 * time.Millisecond})
		p.write(t, t.Context(), t.Name())
		p.add(t, t.Context(), lookArgs{Note: t.Name()}, river.InsertOpts{})
		w.expect(t, atPrimary)
	})
	t.Run("not without replicas", func(t *testing.T) {
		for _, r := range c.Replicas() {
			if err := r.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w := work(t, c, &pgtideriver.Options{WaitBudget: time.Minute})
		p.write(t, t.Context(), t.Name())
		p.add(t, t.Context(), lookArgs{Note: t.Name()}, river.InsertOpts{})
		w.expect(t, atPrimary)
	})
}

func TestSnooze(t *testing.T) {
	c := startCluster(t)
	p := startProcess(t, c)
	o := pgtideriver.Options{OnBehind: pgtideriver.Snooze, WaitBudget: 20 * time.Millisecond, SnoozeFor: 50 * time.Millisecond, MaxSnoozes: 1000}

	t.Run("until a replica has it", func(t *testing.T) {
		w := work(t, c, &o)
		p.write(t, t.Context(), t.Name())
		p.add(t, t.Context(), lookArgs{Note: t.Name()}, river.InsertOpts{})
		w.snoozed(t)
		w.snoozed(t)
		c.resume(t)
		w.expect(t, atReplica)
		c.catchUp(t)
	})
	t.Run("until a replica has what it must see, though it lags for ever", func(t *testing.T) {
		w := work(t, c, &o)
		p.write(t, t.Context(), t.Name())
		p.add(t, t.Context(), lookArgs{Note: t.Name()}, river.InsertOpts{})
		w.snoozed(t)
		c.catchUp(t) // the job is snoozed and worked further on, which they never see
		w.expect(t, atReplica)
	})
	t.Run("at most so often", func(t *testing.T) {
		o := o
		o.MaxSnoozes = 2
		w := work(t, c, &o)
		p.write(t, t.Context(), t.Name())
		p.add(t, t.Context(), lookArgs{Note: t.Name()}, river.InsertOpts{})
		w.snoozed(t)
		w.snoozed(t)
		w.expect(t, atPrimary)
	})
	t.Run("not without replicas", func(t *testing.T) {
		for _, r := range c.Replicas() {
			if err := r.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w := work(t, c, &o)
		p.write(t, t.Context(), t.Name())
		p.add(t, t.Context(), lookArgs{Note: t.Name()}, river.InsertOpts{})
		w.expect(t, atPrimary)
	})
}

func TestNewPanics(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		db         *pgtide.DB
		options    pgtideriver.Options
	}{
		{"no db", "db is nil", nil, pgtideriver.Options{}},
		{"on behind", "OnBehind 3", &pgtide.DB{}, pgtideriver.Options{OnBehind: 3}},
		{"snooze", "SnoozeFor -1s", &pgtide.DB{}, pgtideriver.Options{SnoozeFor: -time.Second}},
		{"snoozes", "MaxSnoozes -1", &pgtide.DB{}, pgtideriver.Options{MaxSnoozes: -1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.HasPrefix(got, "pgtideriver: ") || !strings.Contains(got, tt.want) {
					t.Errorf("panic says %q, want it to say %q", got, tt.want)
				}
			}()
			pgtideriver.New(tt.db, tt.options)
		})
	}
}
