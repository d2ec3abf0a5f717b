-- +goose Up
create table never (id bigint primary key);
insert into post (title) values ('first');
