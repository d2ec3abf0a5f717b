package stamp

import (
	"context"
	"io"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// customData is where a driver's connection keeps its Conn.
const customData = "pgtide stamp"

// Install puts a Conn into the connection that is about to be made with
// config, which must serve for one connection only. It sits between the
// driver's messages and its network connection, which stays as it is: the
// driver looks for TLS there, to bind authentication to it.
func Install(config *pgconn.Config) {
	var c *Conn
	build, after := config.BuildFrontend, config.AfterConnect
	config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		c = New(r, w)
		return build(c, c)
	}
	config.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		conn.CustomData()[customData] = c
		if after != nil {
			return after(ctx, conn)
		}
		return nil
	}
}

// From returns what [Install] put into conn. It is nil if there is none, or if
// the driver has read a part of a message that the server sent unasked: stamps
// could not be told from the rest of it.
func From(conn *pgconn.PgConn) *Conn {
	c, _ := conn.CustomData()[customData].(*Conn)
	if conn.Frontend().ReadBufferLen() > 0 {
		return nil
	}
	return c
}
