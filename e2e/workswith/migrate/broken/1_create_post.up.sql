create table post (id bigint generated always as identity primary key, title text not null);
insert into post (title) values ('first'), ('second');
do $$ begin
	update post set title = title || ' post' where id in (select id from post for update);
end $$;
