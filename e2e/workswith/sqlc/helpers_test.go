package sqlc

import (
	"context"
	_ "embed"
	"errors"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide"
)

//go:embed schema.sql
var schema string

// seeds are rows that the replicas have.
const seeds = `
	insert into author (name, bio) values ('Le Guin', 'Earthsea'), ('Lem', null);
	insert into book (author_id, title) select id, 'Solaris' from author where name = 'Lem'`

// served fails the test unless the newest call of ctx's session went to a node
// of this role.
func served(t *testing.T, ctx context.Context, want pgtide.Role) {
	t.Helper()
	all := pgtide.Explain(ctx)
	if len(all) == 0 || all[len(all)-1].Role != want {
		t.Errorf("decisions: %v, want the last to be a %s", all, want)
	}
}

// refused fails the test unless err is the server's, with this code.
func refused(t *testing.T, err error, code string) {
	t.Helper()
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != code {
		t.Errorf("error %v, want code %s of the server", err, code)
	}
}

func equal[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
