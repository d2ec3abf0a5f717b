package scany

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide"
)

// schema ends with rows that the replicas have.
const schema = `
	create table users (
		user_id   text primary key,
		full_name text not null,
		email     text,
		age       int
	);
	create table post (id bigint generated always as identity primary key, user_id text not null references users, text text not null);
	insert into users values ('ann', 'Ann Lee', 'ann@example.com', 30), ('bob', 'Bob Ray', null, null);
	insert into post (user_id, text) values ('ann', 'first')`

// user has scany's own naming: full_name is FullName.
type user struct {
	UserID   string
	FullName string
	Email    *string
	Age      *int
}

// authored has a nested struct: its columns are named "author.full_name".
type authored struct {
	Text   string
	Author user
}

const (
	insert = "insert into users (user_id, full_name) values ($1, 'New User')"
	byID   = "select * from users where user_id = $1"
	posts  = `select p.text, u.user_id as "author.user_id", u.full_name as "author.full_name" from post p join users u using (user_id)`
)

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
