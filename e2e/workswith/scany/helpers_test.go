package scany

import ()

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
