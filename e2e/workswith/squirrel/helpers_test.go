package squirrel

import (
	"context"
	"errors"
	"testing"

	sq "github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide"
)

// schema ends with rows that the replicas have.
const schema = `
	create table item (
		id    bigint generated always as identity primary key,
		name  text not null unique,
		price int not null default 0
	);
	insert into item (name, price) values ('apple', 3), ('pear', 5)`

var psql = sq.StatementBuilder.PlaceholderFormat(sq.Dollar)

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
