-- name: CopyBooks :copyfrom
insert into book (author_id, title) values ($1, $2);

-- name: RetitleBooks :batchexec
update book set title = sqlc.arg(new_title) where author_id = sqlc.arg(author_id) and title = sqlc.arg(old_title);

-- name: InsertAuthors :batchone
insert into author (name) values ($1) returning id;

-- name: BooksOf :batchmany
select title from book where author_id = $1 order by title;
