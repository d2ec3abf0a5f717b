-- +goose NO TRANSACTION

-- +goose Up
create unique index concurrently post_title on post (title);
set lock_timeout = '5s';
vacuum analyze post;

-- +goose Down
drop index concurrently post_title;
