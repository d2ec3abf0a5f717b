begin;
set local lock_timeout = '5s';
alter table post add column views bigint not null default 0;
commit;
