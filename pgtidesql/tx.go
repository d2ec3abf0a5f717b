package pgtidesql

import (
	"context"
	"database/sql/driver"
)

// tx is a transaction that holds a physical connection.
type tx struct {
	driver.Tx
	conn *Conn
	ctx  context.Context // of BeginTx: database/sql has none for the end
}

// Commit implements [driver.Tx].
func (t *tx) Commit() error { return t.let().call.Commit(t.ctx, t.Tx.Commit) }

// Rollback implements [driver.Tx].
func (t *tx) Rollback() error { return t.let().call.Rollback(t.Tx.Rollback) }

// let takes the connection out of the handle: its end gives it back.
func (t *tx) let() *held {
	h := t.conn.held
	t.conn.held = nil
	return h
}

// heldTx is a transaction on a connection that goes on being held.
type heldTx struct {
	driver.Tx
	held *held
}

// Commit implements [driver.Tx].
func (t *heldTx) Commit() error {
	err := t.Tx.Commit()
	t.held.call.Note(err)
	return err
}
