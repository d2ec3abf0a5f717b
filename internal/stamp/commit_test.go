package stamp

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide/internal/topology"
)

// cut is a connection that ends after the first bytes it reads once told to.
type cut struct {
	net.Conn
	after int // -1 until told
}

func (c *cut) Read(p []byte) (int, error) {
	if c.after < 0 {
		return c.Conn.Read(p)
	}
	if c.after == 0 {
		return 0, net.ErrClosed
	}
	n, err := c.Conn.Read(p[:min(len(p), c.after)])
	c.after -= n
	return n, err
}

// A connection that breaks anywhere behind the statement's ReadyForQuery leaves
// the statement done; anywhere before it, nobody knows.
func (s *server) testBroken(ctx context.Context, t *testing.T) {
	const statement = 22 // bytes of CommandComplete for INSERT 0 1 and ReadyForQuery
	for _, after := range []int{1, statement - 6, statement - 1, statement, statement + 1, statement + 30} {
		t.Run(fmt.Sprintf("after %d bytes", after), func(t *testing.T) {
			broken := &cut{after: -1}
			c := s.connect(ctx, t, 0, func(config *pgx.ConnConfig) {
				inner := config.AfterNetConnect
				config.AfterNetConnect = func(ctx context.Context, p *pgconn.Config, conn net.Conn) (net.Conn, error) {
					broken.Conn = conn
					return inner(ctx, p, broken)
				}
			})
			c.stamp.Arm(Query)
			broken.after = after
			_, err := c.Exec(ctx, fmt.Sprintf("insert into t values (%d, 'cut')", s.id()))
			if done := after >= statement; done != (err == nil) {
				t.Errorf("Exec returns %v", err)
			}
			if _, ok := c.stamp.Take(); ok {
				t.Error("there is a stamp")
			}
			if _, err := c.Exec(ctx, "select 1"); err == nil {
				t.Error("the connection is broken and goes on working")
			}
		})
	}
}

// A replica that has replayed up to the stamp shows the row, also when the
// commit returned before anything of it was written.
func (s *server) testVisible(ctx context.Context, t *testing.T) {
	replica, err := pgx.Connect(ctx, s.replica)
	if err != nil {
		t.Fatal(err)
	}
	defer replica.Close(ctx)
	for _, setting := range []string{"on", "off"} {
		c := s.connect(ctx, t, 0, func(config *pgx.ConnConfig) { config.RuntimeParams["synchronous_commit"] = setting })
		for i, o := range operations {
			t.Run(fmt.Sprintf("synchronous_commit=%s/%s", setting, o.what), func(t *testing.T) {
				id := s.id()
				c.stamp.Arm(o.mode)
				if err := o.do(ctx, c, id); err != nil {
					t.Fatal(err)
				}
				want := topology.DefaultGeometry.Normalize(c.taken(t))
				for { // a replica sends no signal when it has replayed something
					var at string
					var found bool
					err := replica.QueryRow(ctx, `select pg_last_wal_replay_lsn()::text, exists (select from t where id = $1)`, id).Scan(&at, &found)
					if err != nil {
						t.Fatalf("operation %d: %v", i, err)
					}
					if lsn(t, at) < want {
						<-time.After(time.Millisecond)
						continue
					}
					if !found {
						// The position is read after the snapshot was taken: look again.
						err := replica.QueryRow(ctx, `select exists (select from t where id = $1)`, id).Scan(&found)
						if err != nil || !found {
							t.Errorf("the replica is at %s, past the stamp %v, and lacks the row: %v", at, want, err)
						}
					}
					break
				}
			})
		}
	}
}
