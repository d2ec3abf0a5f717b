-- name: GetAuthor :one
select * from author where id = $1;

-- name: GetAuthorByName :one
select * from author where name = $1;

-- name: ListAuthors :many
select * from author order by name;

-- The slice becomes an array parameter.
-- name: AuthorsByID :many
select * from author where id = any (sqlc.arg(ids)::bigint[]) order by name;

-- A statement that writes and returns a row, as a read does.
-- name: CreateAuthor :one
insert into author (name, bio) values ($1, $2) returning *;

-- The same inside a common table expression.
-- name: CreateAuthorWithBook :one
with a as (insert into author (name) values (sqlc.arg(name)) returning id),
     b as (insert into book (author_id, title) select id, sqlc.arg(title) from a returning author_id)
select author_id from b;

-- name: UpdateBio :exec
update author set bio = $2 where id = $1;

-- name: DeleteAuthor :execrows
delete from author where id = $1;

-- A read that a replica cannot do.
-- name: LockAuthor :one
select * from author where id = $1 for update;

-- A comment in front of the statement says what a context says.
-- name: CountAuthorsOnPrimary :one
/* pgtide: primary */ select count(*) from author;

-- name: AddBook :exec
insert into book (author_id, title) values ($1, $2);

-- name: ListBooks :many
select title from book where author_id = $1 order by title;
