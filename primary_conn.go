package pgtide

import (
	"context"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

// dialPrimary wraps a function that connects to n while that is the primary.
// When another node is, its connections are cut: idle in the primary pool, in
// use, or taken out of it for good, as one that listens is.
func (db *DB) dialPrimary(n *node, dial pgconn.DialFunc) pgconn.DialFunc {
	dial = db.dial(n, holding, dial)
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if err := db.stillPrimary(n); err != nil {
			return nil, err
		}
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		if err := db.stillPrimary(n); err != nil { // the cut may have come before
			_ = conn.Close()
			return nil, err
		}
		return conn, nil
	}
}

func (db *DB) stillPrimary(n *node) error {
	if now := idOfPrimary(db.watch.View()); now != n.id && now != 0 {
		return fmt.Errorf("node %q is not the primary any more", n.name())
	}
	return nil
}
