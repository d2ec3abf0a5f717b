package paused

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide"
)

// Served fails the test unless the newest call of ctx's session went to a node
// of this role.
func Served(t *testing.T, ctx context.Context, want pgtide.Role) {
	t.Helper()
	all := pgtide.Explain(ctx)
	if len(all) == 0 || all[len(all)-1].Role != want {
		t.Errorf("decisions: %v, want the last to be a %s", all, want)
	}
}

// Refused fails the test unless err is the server's, with this code.
func Refused(t *testing.T, err error, code string) {
	t.Helper()
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != code {
		t.Errorf("error %v, want code %s of the server", err, code)
	}
}
