create table author (
    id   bigint generated always as identity primary key,
    name text not null unique,
    bio  text
);

create table book (
    id        bigint generated always as identity primary key,
    author_id bigint not null references author on delete cascade,
    title     text not null
);
