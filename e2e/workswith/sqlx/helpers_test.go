package sqlx

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide"
)

// schema ends with rows that the replicas have.
const schema = `
	create table person (
		id         bigint generated always as identity primary key,
		first_name text not null,
		last_name  text not null,
		email      text not null unique,
		nickname   text
	);
	insert into person (first_name, last_name, email, nickname) values
		('Jason', 'Moiron', 'jmoiron@example.com', null),
		('John', 'Doe', 'john@example.com', 'jd')`

type person struct {
	ID        int64          `db:"id"`
	FirstName string         `db:"first_name"`
	LastName  string         `db:"last_name"`
	Email     string         `db:"email"`
	Nickname  sql.NullString `db:"nickname"`
}

const (
	insertNamed = `insert into person (first_name, last_name, email) values (:first_name, :last_name, :email)`
	insert      = `insert into person (first_name, last_name, email) values ('New', 'Person', $1)`
	byEmail     = `select * from person where email = $1`
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
