package sqlx

import (
	"database/sql"
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
