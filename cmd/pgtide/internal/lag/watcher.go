package lag

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	askLimit       = time.Second            // for one answer: the server may be frozen
	reconnectPause = 100 * time.Millisecond // between two tries to reach a replica
	undefinedTable = "42P01"
)

// watcher looks for rows on one replica.
type watcher struct {
	node     Node
	table    string
	patience time.Duration

	conn   *pgx.Conn // nil while the replica cannot be reached
	newest int       // the last row the replica has shown
	at     time.Time // when it was first seen to
	err    error     // why the last question was not answered
}

// run answers for each row in turn, until ctx ends.
// Rows are committed one after the other, so that a replica which shows a row
// shows all before it.
func (w *watcher) run(ctx context.Context, rows <-chan sent, seen chan<- Sight) {
	defer w.disconnect()
	for {
		var row sent
		select {
		case row = <-rows:
		case <-ctx.Done():
			return
		}
		select {
		case seen <- w.await(ctx, row):
		case <-ctx.Done():
			return
		}
	}
}

// await asks until the replica shows the row.
func (w *watcher) await(ctx context.Context, row sent) Sight {
	deadline := row.at.Add(w.patience)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	for w.newest < row.number {
		err := w.ask(ctx)
		if err != nil {
			w.disconnect()
		}
		if ctx.Err() != nil {
			return Sight{Err: w.missing()} // a question cut short says nothing of the server
		}
		pause := Resolution
		if w.err = err; err != nil {
			pause = reconnectPause
		}
		if w.newest >= row.number {
			break
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	if w.at.After(deadline) {
		return Sight{Err: w.missing()}
	}
	return Sight{After: w.at.Sub(row.at)}
}

// ask notes the newest row that the replica shows.
func (w *watcher) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	if w.conn == nil {
		conn, err := connect(ctx, w.node, askLimit)
		if err != nil {
			return err
		}
		w.conn = conn
	}
	var newest int
	err := w.conn.QueryRow(ctx, "select coalesce(max(row), 0) from "+w.table).Scan(&newest)
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok && refused.Code == undefinedTable {
		return nil // its creation has not arrived either
	}
	if err == nil && newest > w.newest {
		w.newest, w.at = newest, time.Now()
	}
	return err
}

// missing says why a row was not seen.
func (w *watcher) missing() error {
	if w.err != nil {
		return fmt.Errorf("%w: %w", ErrNotSeen, w.err)
	}
	return ErrNotSeen
}

func (w *watcher) disconnect() {
	if w.conn != nil {
		closeConn(w.conn)
		w.conn = nil
	}
}
