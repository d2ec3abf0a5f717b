-- +goose Up
create table message (
    id         uuid primary key default gen_random_uuid(),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    text       varchar(200) not null
);

create index message_newest_first on message (created_at desc, id desc);

-- +goose Down
drop table message;
