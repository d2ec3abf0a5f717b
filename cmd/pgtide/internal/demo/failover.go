package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
)

const (
	// failoverWrites is how many writes are waited for on either side.
	failoverWrites = 50
	// writeGap is the time between two writes.
	writeGap = time.Millisecond
	// slowFailover is when a failover counts as failed.
	slowFailover = 2 * time.Second
)

// tellFailover kills the primary under a writer and promotes the fast replica.
func (d *Demo) tellFailover(ctx context.Context) error {
	old := d.cluster.Primary()
	d.story.title("4. Somebody writes all the time; %s, the primary, is killed and %s promoted", old.Name(), d.fast.Name())
	// A writer and an observer must end with this part, whatever its end.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	session := pgtide.NewSession(ctx)
	w := startWriter(session, d.db)
	defer w.stop()
	if err := w.await(ctx, old.Name()); err != nil {
		return err
	}

	killed := time.Now()
	if err := old.Kill(ctx); err != nil {
		return fmt.Errorf("kill %s: %w", old.Name(), err)
	}
	recovered := observeRecovery(ctx, d.fast.DSN())
	asked := time.Now()
	if err := d.cluster.Promote(ctx, d.fast.Name()); err != nil {
		return fmt.Errorf("promote %s: %w", d.fast.Name(), err)
	}
	if err := w.await(ctx, d.fast.Name()); err != nil {
		return err
	}
	w.stop()
	end := <-recovered
	if end.err != nil {
		return fmt.Errorf("observe the promotion of %s: %w", d.fast.Name(), end.err)
	}

	first := w.first(d.fast.Name())
	took := first.Sub(asked)
	d.story.report.PromoteToWriteMS = took.Round(time.Millisecond).Milliseconds()
	d.story.expect("failover_write", fmt.Sprintf("%s accepts a write within %s of the order to promote it", d.fast.Name(), seconds(slowFailover)),
		took < slowFailover, "after %s; the server says that it left recovery after %s; %s after the kill",
		millis(took), millis(end.at.Sub(asked)), millis(first.Sub(killed)))
	return d.tellWrites(session, w)
}

// tellWrites compares what the writer was told with what the new primary has.
func (d *Demo) tellWrites(session context.Context, w *writer) error {
	rows, err := d.db.Query(pgtide.OnPrimary(session), "select text from message where text like 'write %'")
	if err != nil {
		return fmt.Errorf("read the writes: %w", err)
	}
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("read the writes: %w", err)
	}
	times := map[string]int{}
	twice := 0
	for _, text := range texts {
		if times[text]++; times[text] == 2 {
			twice++
		}
	}
	missing := 0
	for _, a := range w.accepted {
		if times[a.text] == 0 {
			missing++
		}
	}
	lost := pgtide.Lost(session)
	told := "so the session was told nothing"
	if lost != nil {
		told = "the session was told: " + lost.Error()
	}
	d.story.expect("failover_honest", "no accepted write is missing, unless its session is told; and none is there twice",
		(missing == 0 || lost != nil) && twice == 0,
		"%d writes accepted, %d of them missing, %s; %d of unknown outcome, %d refused; %d there twice",
		len(w.accepted), missing, told, w.unknown, w.refused, twice)
	return nil
}

// writer writes numbered rows, one after the other, until it is stopped.
type writer struct {
	cancel context.CancelFunc
	done   chan struct{} // closed at its end

	mu       sync.Mutex // guards the fields below, while it runs
	accepted []accepted
	unknown  int
	refused  int
	lastErr  error
	changed  chan struct{} // closed at the next change
}

// accepted is a write that the server said was done.
type accepted struct {
	text string
	node string
	at   time.Time
}

// startWriter starts a writer in the session of ctx.
func startWriter(ctx context.Context, db *pgtide.DB) *writer {
	ctx, cancel := context.WithCancel(ctx)
	w := &writer{cancel: cancel, done: make(chan struct{}), changed: make(chan struct{})}
	go func() {
		defer close(w.done)
		for n := 1; ; n++ {
			text := fmt.Sprintf("write %d", n)
			attempt, witness := withWitness(ctx)
			_, err := db.Exec(attempt, "insert into message (text) values ($1)", text)
			if ctx.Err() != nil {
				return
			}
			w.note(text, witness.decision().Node, err)
			select {
			case <-time.After(writeGap):
			case <-ctx.Done():
				return
			}
		}
	}()
	return w
}

func (w *writer) note(text, node string, err error) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.accepted = append(w.accepted, accepted{text, node, now})
	case errors.Is(err, pgtide.ErrOutcomeUnknown):
		w.unknown++
	default:
		w.refused++
		w.lastErr = err
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// await returns once the node has accepted failoverWrites.
func (w *writer) await(ctx context.Context, node string) error {
	for {
		w.mu.Lock()
		count, changed, lastErr := 0, w.changed, w.lastErr
		for _, a := range w.accepted {
			if a.node == node {
				count++
			}
		}
		w.mu.Unlock()
		if count >= failoverWrites {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s has accepted %d writes (last error of the writer: %v): %w", node, count, lastErr, context.Cause(ctx))
		}
	}
}

// first returns when the node accepted its first write. The writer is stopped.
func (w *writer) first(node string) time.Time {
	for _, a := range w.accepted {
		if a.node == node {
			return a.at
		}
	}
	return time.Time{}
}

// stop ends the writer and returns once it has. A second stop does nothing.
func (w *writer) stop() {
	w.cancel()
	<-w.done
}

type observation struct {
	at  time.Time
	err error
}

// observeRecovery asks a server on a connection of its own, each millisecond,
// until it says that it is out of recovery. The connection is made before
// observeRecovery returns, so that it takes nothing from what is measured.
func observeRecovery(ctx context.Context, dsn string) <-chan observation {
	result := make(chan observation, 1)
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		result <- observation{err: err}
		return result
	}
	go func() {
		defer conn.Close(context.WithoutCancel(ctx))
		for {
			var recovering bool
			err := conn.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&recovering)
			if err != nil || !recovering {
				result <- observation{time.Now(), err}
				return
			}
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
				result <- observation{err: context.Cause(ctx)}
				return
			}
		}
	}()
	return result
}
