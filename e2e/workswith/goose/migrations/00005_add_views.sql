-- +goose Up
alter table post add column views bigint not null default 0;

-- +goose Down
alter table post drop column views;
