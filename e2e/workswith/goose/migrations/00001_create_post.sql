-- +goose Up
create table post (id bigint generated always as identity primary key, title text not null);
insert into post (title) values ('first'), ('second');

-- +goose StatementBegin
create function title_length(p post) returns int language plpgsql as $$
begin
	return length(p.title);
end
$$;
-- +goose StatementEnd

-- +goose Down
drop function title_length;
drop table post;
